"""Schemas of the tables made from several seeds, of claims and of benchmarks: each column and what it holds."""

from pipeline.results.schemas import OVERLAP, SEED, WHO

_INTERVAL = {
    "mean": "mean over seeds",
    "low": "lower end of the t interval over seeds",
    "high": "upper end of the t interval over seeds",
    "seeds": "number of seeds",
}
_PROJECTED = WHO | {"task": "fine-tuning whose update is projected", "fraction": "k as a fraction of min(m, n)"}
_EXCESS = {
    "matched_on": "what the scaled update has in common with the variant: energy_kept or a measure",
    "measure": "share_<measure> of the variant, or its excess_<measure> over the scaled update",
}

OVER_SEEDS: dict[str, dict[str, str]] = {
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
    | OVERLAP
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
    | SEED
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
