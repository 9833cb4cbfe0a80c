"""A judge that is a language model on this machine: any Hugging Face model, asked greedily by the rubric."""

from functools import cached_property
from pathlib import Path

from helpers.evaluation.judges import Judgement, judge
from helpers.evaluation.judges.kept import KeptJudge, Pair, parse, question, rubric, rubric_of
from helpers.files import sha256
from helpers.models.generate import generate
from helpers.models.load import Loaded, load_model
from helpers.models.origins import resolve
from helpers.models.prompts import in_batches, prompt_ids
from helpers.studies.sections import Origin
from helpers.studies.settings import Study


@judge("local", needs=("model",))
class LocalJudge(KeptJudge):
    """A model on this machine, asked by the rubric through its chat template where it has one.

    An answer that does not fit the model with the rubric gets no score, like a reply that cannot be read.
    """

    def __init__(self, study: Study):
        settings = study.evaluation.judge
        self._batch_size, self._max_tokens = study.evaluation.batch_size, settings.max_tokens
        self._rubric = rubric_of(settings)
        self._folder = resolve(settings.model)
        facts = {"weights": sha256(self._folder), "rubric": rubric(self._rubric), "max_tokens": self._max_tokens}
        super().__init__(judge="local", model=_label(settings.model), temperature=0, **facts)

    @cached_property
    def _loaded(self) -> Loaded:
        """The model in the precision it is stored in; loaded when there is something to ask."""
        return load_model(self._folder, dtype="auto")

    def ask(self, pairs: list[Pair]) -> None:
        """Ask about all pairs in batches of similar length."""
        model, tokenizer = self._loaded
        style = "chat" if tokenizer.chat_template else "raw"
        questions = [question(*pair, self._rubric) for pair in pairs]
        lengths = [len(row) for row in prompt_ids(tokenizer, questions, style)]
        room = getattr(model.config, "max_position_embeddings", None) or float("inf")

        def ask_some(indices: list[int]) -> None:
            """Judge the pairs at some places as one batch; what is too long for the model gets no score."""
            fits = [i for i in indices if lengths[i] + self._max_tokens <= room]
            asked = [questions[i] for i in fits]
            replies = generate(model, tokenizer, asked, self._max_tokens, self._batch_size, style)
            verdicts = dict(zip(fits, map(parse, replies), strict=True))
            for i in indices:
                self.keep(pairs[i], verdicts.get(i, Judgement(None, False)))

        in_batches(lengths, self._batch_size, ask_some)


def _label(origin: Origin) -> str:
    """A model's name without the folders of this machine."""
    if origin.origin == "folder":
        return Path(origin.path).name
    return f"{origin.id}@{origin.revision}" if origin.origin == "hub" else f"{origin.package}/{Path(origin.file).name}"
