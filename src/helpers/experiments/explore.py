"""One seed to play with: its energies for every k, from arrays that are there, and edits of its model, made live."""

from functools import cache
from pathlib import Path

import pandas as pd
from IPython.display import HTML
from safetensors.torch import load_file

from helpers.errors import MissingInput, StudyError
from helpers.evaluation.behaviour import EvaluationSets, answers_to, measure, prompts_to_show
from helpers.figures import LABELS, Source, curves, panels, show, table
from helpers.methods.context import Context
from helpers.methods.door import edit_named
from helpers.models.load import load_model
from helpers.studies.doors import tenants
from helpers.subspaces import rank_for_fraction
from helpers.weights.edits import LiveUpdate
from helpers.weights.names import layer_of

EVERY = "all"  # layers
AT = " at "  # between an edit and a place of its dial
MEASURES = ["utility", "harm", "utility_margin", "harm_margin"]
STEPS = [step / 20 for step in range(1, 21)]  # k / min(m, n)


class Energies:
    """Energy of a seed's updates in its subspaces for every k, read from the arrays that notebook 4 kept.

    Raises MissingInput where they are not there.
    """

    def __init__(self, arrays: Path, context: Context) -> None:
        if not arrays.exists():
            raise MissingInput(f"{arrays} is missing: run notebooks/04_update_overlap.ipynb of this seed to make it")
        self.along, self.context = load_file(arrays), context  # "subspace|control|task|tensor" -> (r,), ‖P_k D‖²
        parts = [key.split("|", 3) for key in self.along]
        self.subspaces, self.controls, self.tasks = (sorted({part[i] for part in parts}) for i in range(3))
        self.layers = sorted({layer_of(name) for name in context.names})  # −1: embeddings and head
        self.total = cache(lambda task, name: float(context.update(task, name).square().sum()))  # ‖D‖²

    def kept(self, subspace: str, task: str, fraction: float, layer: int | str = EVERY) -> dict[str, float]:
        """By control the share of an update's energy inside a subspace, over the tensors of a layer, or of all.

        NaN where the update is zero there; a tensor that the subspace does not have keeps nothing.
        """
        names = [name for name in self.context.names if layer in (EVERY, layer_of(name))]
        total = sum(self.total(task, name) for name in names)
        found = {}
        for control in self.controls:
            inside = sum(self._inside(f"{subspace}|{control}|{task}", name, fraction) for name in names)
            found[control] = inside / total if total else float("nan")
        return found

    def _inside(self, key: str, name: str, fraction: float) -> float:
        """‖P_k D‖² of one tensor."""
        energy = self.along.get(f"{key}|{name}")
        if energy is None:
            return 0.0
        return float(energy[min(rank_for_fraction(self.context.shape(name), fraction), len(energy)) - 1])

    def figure(self, run: Source, subspace: str, task: str, k: float, layer: int | str) -> HTML:
        """Energy over k in a layer, and over the layers at one k."""
        over_k = self._table("fraction", {f: self.kept(subspace, task, f, layer) for f in STEPS})
        over_layers = self._table("layer", {one: self.kept(subspace, task, k, one) for one in self.layers})
        where = "all layers" if layer == EVERY else f"layer {layer}"
        figure, axes = panels(2)
        for ax, rows, x, place in zip(axes, (over_k, over_layers), ("fraction", "layer"), (k, layer), strict=True):
            curves(ax, rows, x, "control", y="energy_kept")
            if place != EVERY:
                ax.axvline(place, color="black", lw=0.8, alpha=0.5)
            ax.set(ylabel=LABELS["energy_kept"], ylim=(0, 1.02))
        axes[0].set_title(where)
        axes[1].set(title=f"k = {k:g} · min(m, n)", xlabel="layer (−1: embeddings, head)")
        caption = (
            f"Energy of the {task} update inside the {subspace} subspace, seed {self.context.seed}: over k in {where} "
            f"(left), over the layers at one k (right)."
        )
        return show(figure, "fig-explore-energy", caption, run, "energy")

    @staticmethod
    def _table(axis: str, kept: dict[float, dict[str, float]]) -> pd.DataFrame:
        rows = [
            {axis: place, "control": c, "energy_kept": v} for place, found in kept.items() for c, v in found.items()
        ]
        return pd.DataFrame(rows)


class EditedAnswers:
    """What the models of a seed answer, and what the fine-tuned one answers after an edit of ``helpers.methods``.

    The aligned model is loaded once, edited in memory and put back exactly; nothing is written.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.study = context, context.study
        self.model, self.tokenizer = load_model(context.checkpoints["aligned"].folder)
        self.sets = EvaluationSets.of(self.study, context.seed)
        self.prompts = prompts_to_show(self.sets, self.study)
        self._start = cache(self._at)  # of both ends, which no edit changes

    def edits(self) -> list[str]:
        """Every edit there is, at each place of its dial."""
        found = tenants("methods", "edit").values()
        return [f"{one.name}{AT}{dial:g}" for one in found for dial in one.facts.get("dials", (1.0,))]

    def table(self, task: str, edit: str) -> HTML:
        """Answers, shortened and escaped, and measures: aligned, fine-tuned, and fine-tuned with the edit.

        An edit that this study cannot make, such as one that needs an update it has not, gives its sentence.
        """
        name, dial = edit.rsplit(AT, 1)
        try:
            found = [self._start(task, 0.0), self._start(task, 1.0), self._edited(task, name, float(dial))]
        except StudyError as error:
            return table(pd.DataFrame({"this edit cannot be made here": [str(error)]}))
        heads = ["aligned", task, f"{task}, {edit}"]
        said = pd.DataFrame({head: answers for head, (answers, _) in zip(heads, found, strict=True)})
        said = said.map("{:.40}".format).set_index(pd.Index(self.prompts, name="prompt").map("{:.60}".format))
        measured = pd.DataFrame([means for _, means in found], index=heads)
        return HTML(table(said).data + table(measured.rename(columns=LABELS)).data)

    def _at(self, task: str, alpha: float) -> tuple[list[str], dict[str, float]]:
        with self._live(task) as live:
            live.scale(alpha)
            return self._asked(live)

    def _edited(self, task: str, name: str, dial: float) -> tuple[list[str], dict[str, float]]:
        edit, context = edit_named(name), self.context
        with self._live(task) as live:
            live.apply(lambda tensor: edit.edited(context.weights(tensor, task), context, dial))
            return self._asked(live)

    def _live(self, task: str) -> LiveUpdate:
        return LiveUpdate(self.model, self.context.checkpoints["aligned"], self.context.checkpoints[task])

    def _asked(self, live: LiveUpdate) -> tuple[list[str], dict[str, float]]:
        """Answers to the prompts that may be shown, and means over the whole evaluation sets."""
        measured = measure(self.model, self.tokenizer, self.sets, self.study)
        means = {name: float(measured[name][~pd.isna(measured[name])].mean()) for name in MEASURES}
        answers = answers_to(self.model, self.tokenizer, self.prompts, self.study)
        return answers, means | {"energy_kept": live.energy_kept}
