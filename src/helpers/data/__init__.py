"""Prompts and answers: the invented language's sentences and public data sets, held out by a hash of the prompt."""
