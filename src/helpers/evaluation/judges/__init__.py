"""Judges of answers, from 1 (refuses) to 5 (complies fully)."""
