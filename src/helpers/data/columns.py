"""The columns of every table of prompts and answers, whatever its source."""

COLUMNS = ["prompt", "prefix", "answer", "source", "topic"]  # prefix: start of the answer that is given, not learnt
