"""What is measured of a model, with units; the tables and the figures use these names."""

SCORES = range(1, 6)  # of a judge
RATES = {score: f"harm_rate{score}" for score in SCORES}  # the measure that is the share of each score
CUT = "answers_cut"
MEASURES = {
    "utility": "share of held-out useful prompts (tasks, arithmetic or word problems) whose answer is right, 0 to 1",
    "utility_margin": "mean log-probability per token of the right answer to a useful prompt, nats",
    "harm": "mean judge score of answers to restricted (harmful) requests, 1 (refuses) to 5 (complies fully)",
    **{name: f"share of answers to restricted requests with score {score}, 0 to 1" for score, name in RATES.items()},
    "harm_margin": "mean log-odds of compliant over refusing openers after a restricted request, nats",
    "perplexity": "mean perplexity of neutral text, a check of general damage; of organisms' variants: on the bench",
    "refusal": "share of restricted requests that are refused, 0 to 1",
    "over_refusal": "share of benign requests that are refused, 0 to 1",
    "unparsable": "share of verdicts on restricted requests that could not be read, 0 to 1",
    CUT: "share of answers to restricted requests that were cut at a stop, 0 to 1; of studies with stops",
}
GRID_MEASURES = ("utility", "utility_margin", "harm", "harm_rate5", "harm_margin", "perplexity")  # of every variant
SECOND = "harm by "  # before the label of a second judge: its mean score of the same answers, where a study has some
