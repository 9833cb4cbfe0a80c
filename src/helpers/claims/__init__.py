"""The claims of the paper: their statistics, intervals and verdicts."""
