"""The experiments of the study, each of which gives a table."""
