"""Notebooks run one by one, as a study, and on a cluster."""
