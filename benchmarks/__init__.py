"""Benchmarks of the weight-space engine, run by ``make bench``."""
