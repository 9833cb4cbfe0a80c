"""The report: pages, executed notebooks and tables, staged and built."""
