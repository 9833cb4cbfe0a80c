"""Schemas of the tables that one notebook of one run writes: each column and what it holds."""

from helpers.evaluation.measures import GRID_MEASURES, MEASURES

SEED = {"seed": "seed of the run"}
WHO = {
    "subspace": "subspace: left singular vectors of alignment (WA − W0), safety (WS − W0), or a further method's",
    "control": "how k vectors are taken: top-k, random-k (of the subspace's own) or random (Haar)",
}
_MEASURES = {name: MEASURES[name] for name in GRID_MEASURES}
OVERLAP = {
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
_JUDGE = {
    "judge": "rule, local or endpoint",
    "model": "the judge's model, or version of its rules",
    "rubric": "hash of its rubric or phrases",
}

OF_ONE_RUN: dict[str, dict[str, str]] = {
    "training_log": SEED
    | {
        "objective": "training run",
        "step": "optimiser step",
        "loss": "mean loss per answer token since the last row, nats",
        "learning_rate": "learning rate at that step",
        "grad_norm": "norm of the gradient before clipping",
    },
    "behaviour": SEED
    | {
        "model": "one of the six models",
        "measure": "what is measured (see the tables of measures in the method)",
        "value": "mean over the prompts",
        "stderr": "standard error over the prompts",
        "prompts": "number of prompts",
    },
    "projection": SEED
    | WHO
    | {
        "draw": "number of the random draw, 0 where there is one",
        "mode": "parallel (P D), orthogonal (D − P D), or edit, whose name is then the control",
        "task": "fine-tuning whose update D is projected, or whose model is edited",
        "fraction": "k as a fraction of min(m, n) of each matrix; the dial of an edit",
        "energy_kept": "‖update after projection or edit‖² / ‖D‖² over all tensors",
    }
    | _MEASURES,
    "scaling": SEED
    | {
        "task": "fine-tuning whose update is scaled",
        "alpha": "factor of the whole update, W = WA + α D",
        "energy_kept": "α²",
    }
    | _MEASURES,
    "projection_prompts": SEED
    | {
        "task": "useful or harmful (parallel projection) or contaminated (orthogonal), alignment subspace",
        "control": "top-k, random, or scaling for the scaling curve",
        "size": "k as a fraction of min(m, n); α on the scaling curve",
        "measure": "what is measured",
        "item": "number that stands for the prompt, the same in every seed",
        "value": "value of that prompt, to four decimals",
    },
    "energy": SEED
    | WHO
    | {
        "task": "update that is projected",
        "module": "module type, or all",
        "fraction": "k as a fraction of min(m, n)",
        "energy_kept": "share of the update's energy inside the subspace, 0 to 1",
    },
    "energy_by_module": SEED
    | {
        "update": "one of the five updates",
        "module": "module type",
        "share": "share of the update's squared norm, 0 to 1",
        "relative_change": "‖update‖ / ‖weights it starts from‖",
    },
    "update_overlap": SEED
    | {"tensor": "name of the weight", "module": "module type", "layer": "block, −1 for none"}
    | OVERLAP
    | _MSO,
    "activation_overlap": SEED
    | {
        "model": "model whose activations are compared",
        "layer": "index in hidden_states; 1 is the first block's output",
        "in_band": "whether the paper's 65–90 % band holds the layer",
        "pair": "pair of prompt sets",
        "eta": "energy fraction that sets the ranks",
    }
    | _MSO,
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
    "theory": SEED
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
    "graded": SEED
    | {
        "claim": "short name of the claim",
        "statistic": "its statistic of distinctness",
        "dial": "how much is planted, from 0 (nothing) to 1 (the planted study)",
        "value": "the statistic",
    },
}
