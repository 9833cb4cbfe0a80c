"""Prompts and answers: the invented language's sentences and public data sets, held out by a hash of the prompt."""

# of every table; prefix: given start of the answer, not learnt
COLUMNS = ["prompt", "prefix", "answer", "source", "topic"]
