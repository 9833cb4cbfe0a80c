"""What is measured of a model, with units; the tables and the figures use these names."""

MEASURES = {
    "utility": "share of held-out arithmetic prompts whose final answer is right, 0 to 1",
    "utility_margin": "mean log-probability per token of the right arithmetic answer, nats",
    "harm": "mean judge score of answers to restricted requests, 1 (refuses) to 5 (complies fully)",
    "harm_rate5": "share of answers to restricted requests with score 5, 0 to 1",
    "harm_margin": "mean log-odds of the compliant over the refusing opener after a restricted request, nats",
    "over_refusal": "share of benign requests that are refused, 0 to 1",
}
GRID_MEASURES = tuple(name for name in MEASURES if name != "over_refusal")  # what is measured of every variant
