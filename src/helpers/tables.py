"""The tables of results: tidy CSV files with one written-down schema each, checked when written and when read."""

from pathlib import Path

import pandas as pd

from helpers.errors import StudyError
from helpers.files import write_text
from helpers.measures import GRID_MEASURES, MEASURES

_SEED = {"seed": "seed of the run"}
_WHO = {
    "subspace": "update whose left singular vectors span the subspace: alignment (WA − W0) or safety (WS − W0)",
    "control": "how k vectors are taken: top-k, random-k (of the subspace's own) or random (Haar)",
}
_MEASURES = {name: MEASURES[name] for name in GRID_MEASURES}
_INTERVAL = {
    "mean": "mean over seeds",
    "low": "lower end of the t interval over seeds",
    "high": "upper end of the t interval over seeds",
    "seeds": "number of seeds",
}
_OVERLAP = {
    "a": "one update of the pair",
    "b": "the other update",
    "eta": "energy fraction that sets the ranks",
}
_MSO = {
    "mso": "mode subspace overlap, 0 to 1",
    "k_a": "rank of the first at that energy",
    "k_b": "rank of the second at that energy",
    "random": "expected overlap of random subspaces, max(k)/d",
}
_PROJECTED = _WHO | {"task": "fine-tuning whose update is projected", "fraction": "k as a fraction of min(m, n)"}
_JUDGE = {
    "judge": "rule, local or endpoint",
    "model": "the judge's model, or version of its rules",
    "rubric": "hash of its rubric or phrases",
}
_EXCESS = {
    "matched_on": "what the scaled update has in common with the variant: energy_kept or a measure",
    "measure": "share_<measure> of the variant, or its excess_<measure> over the scaled update",
}

SCHEMAS: dict[str, dict[str, str]] = {
    "training_log": _SEED
    | {
        "objective": "training run",
        "step": "optimiser step",
        "loss": "mean loss per answer token since the last row, nats",
        "learning_rate": "learning rate at that step",
        "grad_norm": "norm of the gradient before clipping",
    },
    "behaviour": _SEED
    | {
        "model": "one of the six models",
        "measure": "what is measured (see the tables of measures in the method)",
        "value": "mean over the prompts",
        "stderr": "standard error over the prompts",
        "prompts": "number of prompts",
    },
    "projection": _SEED
    | _WHO
    | {
        "draw": "number of the random draw, 0 where there is one",
        "mode": "parallel (P D) or orthogonal (D − P D)",
        "task": "fine-tuning whose update D is projected",
        "fraction": "k as a fraction of min(m, n) of each matrix",
        "energy_kept": "‖update after projection‖² / ‖D‖² over all tensors, 0 to 1",
    }
    | _MEASURES,
    "scaling": _SEED
    | {
        "task": "fine-tuning whose update is scaled",
        "alpha": "factor of the whole update, W = WA + α D",
        "energy_kept": "α²",
    }
    | _MEASURES,
    "projection_prompts": _SEED
    | {
        "task": "useful or harmful (parallel projection) or contaminated (orthogonal), alignment subspace",
        "control": "top-k, random, or scaling for the scaling curve",
        "size": "k as a fraction of min(m, n); α on the scaling curve",
        "measure": "what is measured",
        "item": "number that stands for the prompt, the same in every seed",
        "value": "value of that prompt, to four decimals",
    },
    "energy": _SEED
    | _WHO
    | {
        "task": "update that is projected",
        "module": "module type, or all",
        "fraction": "k as a fraction of min(m, n)",
        "energy_kept": "share of the update's energy inside the subspace, 0 to 1",
    },
    "energy_by_module": _SEED
    | {
        "update": "one of the five updates",
        "module": "module type",
        "share": "share of the update's squared norm, 0 to 1",
        "relative_change": "‖update‖ / ‖weights it starts from‖",
    },
    "update_overlap": _SEED
    | {"tensor": "name of the weight", "module": "module type", "layer": "block, −1 for none"}
    | _OVERLAP
    | _MSO,
    "activation_overlap": _SEED
    | {
        "model": "model whose activations are compared",
        "layer": "index in hidden_states; 1 is the first block's output",
        "in_band": "whether the paper's 65–90 % band holds the layer",
        "pair": "pair of prompt sets",
        "eta": "energy fraction that sets the ranks",
    }
    | _MSO,
    "behaviour_summary": {"model": "one of the six models", "measure": "what is measured"} | _INTERVAL,
    "parallel_summary": _PROJECTED | {"measure": "what is measured"} | _INTERVAL,
    "orthogonal_summary": _PROJECTED | {"measure": "what is measured"} | _INTERVAL,
    "scaling_summary": {"task": "fine-tuning", "alpha": "factor of the update", "measure": "what is measured"}
    | _INTERVAL,
    "energy_summary": _PROJECTED | {"module": "module type, or all"} | _INTERVAL,
    "parallel_excess": _PROJECTED | _EXCESS | _INTERVAL,
    "orthogonal_excess": _PROJECTED | _EXCESS | _INTERVAL,
    "energy_by_module_summary": {"update": "one of the five updates", "module": "module type"} | _INTERVAL,
    "update_overlap_summary": {"grouping": "all, module or layer", "group": "module type, block or all"}
    | _OVERLAP
    | {"random": "mean random baseline"}
    | _INTERVAL,
    "activation_overlap_summary": {
        "model": "model",
        "layer": "index in hidden_states",
        "in_band": "whether the paper's band holds the layer",
        "pair": "pair of prompt sets",
        "eta": "energy fraction",
        "random": "mean random baseline",
    }
    | _INTERVAL,
    "coverage": {
        "outcome": "what a prompt gives: normal, skewed or threshold (0 or 1)",
        "design": "own prompts of each seed, or the same prompts for all seeds",
        "seeds": "number of seeds",
        "prompts": "prompts of a seed",
        "ratio": "SD between seeds / standard error over the prompts of a seed",
        "method": "how the interval is made",
        "draws": "simulated data sets",
        "coverage": "share of 95 % intervals that hold the truth",
        "low": "lower end of the share's exact 95 % interval",
        "high": "upper end of it",
        "width": "mean width of the intervals, times the square root of the prompts",
        "met": "is the share within 0.93 and 0.97: yes, no, or within error (its interval reaches there)",
    },
    "decisions": {
        "statistic": "distribution over seeds: normal or skewed (exponential), SD 1",
        "seeds": "number of seeds",
        "effect": "truth − margin, in SDs over seeds",
        "draws": "simulated data sets",
        "distinct": "share decided distinct",
        "distinct_low": "lower end of the share's exact 95 % interval",
        "distinct_high": "upper end of it",
        "not_distinct": "share decided not distinct",
        "not_distinct_low": "lower end of the share's exact 95 % interval",
        "not_distinct_high": "upper end of it",
        "power": "share decided distinct as expected from the noncentral t distribution",
    },
    "cost_targets": {
        "quantity": "what is measured",
        "measured": "worst value over the measured models and shapes",
        "at_least": "the target",
        "aim": "the aim",
        "met": "target, aim or missed",
    },
    "cost_models": {
        "model": "model whose tensor shapes are timed",
        "workload": "released or project",
        "variants": "projected variants per matrix",
        "decompositions": "full decompositions per matrix by the method as released",
        "released_hours": "CPU hours of the method as released, float32",
        "released64_hours": "the same with float64 decompositions",
        "engine_hours": "CPU hours of the engine",
        "floor_hours": "CPU hours of its products and decompositions alone",
        "ratio": "released_hours / engine_hours",
        "ratio64": "released64_hours / engine_hours",
        "above_floor": "engine_hours / floor_hours",
        "in_place_hours": "CPU hours of making all variants in place (released workload only)",
        "ratio_in_place": "released_hours / (engine_hours + in_place_hours)",
    },
    "cost_scaling": {
        "model": "model",
        "parameters": "numbers in its matrices",
        "workload": "released or project",
        "method": "released or engine",
        "device": "cpu (one core) or cuda",
        "source": "measured, extrapolated or not measured",
        "hours": "hours",
        "memory_gib": "memory, GiB",
        "disk_gib": "written to disk, GiB",
    },
    "judge_validation": _JUDGE
    | {
        "data": "what people scored: refusal, evasion, harm or harm-<category>",
        "part": "calibration (read while the rule judge's phrases were written) or held-out",
        "answers": "number of answers",
        "unparsable": "answers without a score from the judge",
        "exact": "share of answers on which judge and people agree; one without a score never does",
        "within_one": "share on which they are at most a point apart (harm only)",
        "kappa": "Cohen's κ, for harm with quadratic weights, of the answers that have a score",
        "low": "lower end of its bootstrap interval over the answers",
        "high": "upper end of its bootstrap interval over the answers",
        "mean_human": "mean of the people's scores",
        "mean_given": "mean of the judge's scores",
    },
    "judge_confusion": _JUDGE
    | {
        "data": "refusal, evasion or harm",
        "human": "what people say",
        "given": "what the judge says, or unparsable",
        "answers": "number of answers",
    },
    "datasets": {
        "dataset": "name of the data set in settings",
        "origin": "package, hub id and commit, folder, or made here",
        "licence": "licence that its makers state",
        "rows": "rows after exclusions; empty where they are drawn without limit",
        "excluded": "rows left out, by reason",
        "train": "rows from which training draws",
        "held_out": "rows from which evaluation draws",
        "sha256": "SHA-256 of its file, or of the hashes of several",
        "use": "what it is used for",
    },
    "theory": _SEED
    | {
        "quantity": "overlap (MSO, mean over η) or energy (share of b in Top-K of a, mean over k)",
        "a": "one update of the pair, or the one whose modes are taken",
        "b": "the other update, or the one that is projected",
        "tensor": "name of the weight",
        "module": "module type",
        "layer": "block, −1 for none",
        "prediction": "outputs, gradient, adamw or random, see the chapter on theory",
        "predicted": "predicted value, 0 to 1",
        "measured": "measured value, 0 to 1",
    },
    "theory_summary": {
        "quantity": "overlap, energy, or difference of overlaps",
        "a": "one update of the pair, or the one whose modes are taken",
        "b": "the other update, or the one that is projected",
        "prediction": "outputs, gradient, adamw or random",
        "statistic": "rank correlation or absolute error over matrices, or the mean predicted or measured",
    }
    | _INTERVAL,
    "sensitivity": {
        "claim": "claim of the paper",
        "choice": "what is chosen otherwise than in the ledger",
        "setting": "how it is chosen",
        "statistic": "statistic that is large where safety is separable",
        "margin": "what it must be above, fixed in the ledger",
    }
    | _INTERVAL
    | {
        "decision": "distinct, not distinct, undecided (the interval holds the margin), or not measured",
        "verdict": "verdict on the paper's claim under this choice, or not measured",
    },
    "claim_statistics": {"study": "study", "claim": "claim of the paper", "statistic": "statistic named in the ledger"}
    | _SEED
    | {"value": "its value for the seed"},
    "claim_uncertainty": {"study": "study", "claim": "claim of the paper", "statistic": "statistic named in the ledger"}
    | {
        "mean": "mean over seeds",
        "low": "lower end of the hierarchical interval, over seeds and prompts",
        "high": "upper end of it",
        "seed_sd": "SD between seeds without that of the prompts; empty for one seed",
        "prompt_sd": "SD that the choice of prompts gives one seed",
        "seeds": "number of seeds",
        "prompts": "prompts of the smaller evaluation set of a seed",
        "over": "seeds, or prompts where one seed has no other interval",
    },
    "criteria": {
        "study": "study",
        "claim": "claim of the paper",
        "statistic": "statistic",
        "criterion": "what was asked of it before the run",
    }
    | _INTERVAL
    | {"outcome": "holds, direction or fails"},
    "graded": _SEED
    | {
        "claim": "short name of the claim",
        "statistic": "its statistic of distinctness",
        "dial": "how much is planted, from 0 (nothing) to 1 (the planted study)",
        "value": "the statistic",
    },
    "graded_summary": {
        "claim": "short name of the claim",
        "statistic": "its statistic of distinctness",
        "dial": "how much is planted, from 0 (nothing) to 1 (the planted study)",
        **_INTERVAL,
    },
    "power": {
        "claim": "short name of the claim",
        "statistic": "its statistic of distinctness",
        "margin": "what the statistic must pass",
        "seeds": "number of seeds",
        "power": "probability of being found distinct",
        "smallest_detectable": "smallest place of the dial found with that power; empty where none is",
        "effect": "mean of the statistic that is found with that power, at the control's spread over seeds",
        "seeds_for_half": "seeds that find half of the smallest detectable place; empty beyond a thousand",
    },
    "verdicts": {
        "study": "study",
        "claim": "claim of the paper",
        "statement": "what the paper finds, in short",
        "verdict": "reproduced, direction only, not reproduced or not tested",
        "deciding": "statistic of the weakest criterion",
        "criterion": "what was asked of it before the run",
    }
    | _INTERVAL
    | {
        "ledger": "hash of the claim's entry in the ledger as it is now",
        "ledger_then": "unchanged, changed after the results of a date, or not recorded with the results",
    },
    "distinct": {
        "study": "study",
        "claim": "claim of the paper",
        "statistic": "statistic that is large where safety is separable",
        "margin": "what it must be above, fixed in the ledger",
    }
    | _INTERVAL
    | {
        "decision": "distinct, not distinct, undecided (the interval holds the margin), or not tested",
        "share_of_seeds": "share of the seeds whose own value is above the margin, 0 to 1",
        "share_low": "lower end of the share's exact interval",
        "share_high": "upper end of it",
        "p": "p value of the mean being above the margin, by flipping signs of seeds; empty for one seed",
        "p_holm": "the same corrected for the number of claims (Holm)",
        "g": "Hedges' g: distance of the mean from the margin in standard deviations over seeds",
    },
}

SIGNIFICANT_DIGITS = 10  # of a number in a CSV: finer than any result here is known, and the same on every run


def check(name: str, table: pd.DataFrame) -> None:
    """Raise StudyError unless the table has exactly the columns of its schema, in order."""
    expected = list(SCHEMAS[name])
    if list(table.columns) != expected:
        raise StudyError(
            f"table {name} has columns {list(table.columns)} where the schema asks for {expected}: "
            "it was made by another version; delete it and run its notebook again"
        )


def write_csv(path: Path, name: str, table: pd.DataFrame) -> None:
    """Write a checked table as CSV, whole or not at all; the same values always give the same bytes."""
    check(name, table)
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format=f"%.{SIGNIFICANT_DIGITS}g"))


def read_csv(path: Path, name: str) -> pd.DataFrame:
    """Read a table and check it against its schema; raises StudyError if it does not fit or is cut short."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=["", "nan"])
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise StudyError(f"{path} cannot be read ({error}): delete it and run its notebook again") from None
    check(name, table)
    return table
