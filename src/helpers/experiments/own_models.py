"""Your own models: found, checked to be comparable, and measured, by their weights and by their margins."""

from itertools import combinations
from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from helpers.data.rows import evaluation_rows
from helpers.errors import StudyError, TensorMismatch
from helpers.evaluation.texts import without_marks
from helpers.experiments.updates import behaviour_rows
from helpers.memory import say
from helpers.models.generate import log_odds, log_probability
from helpers.models.load import best_device, load_model, load_tokenizer
from helpers.models.origins import resolve
from helpers.studies.settings import OwnModels
from helpers.studies.values import Style
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.folders import ADAPTER_CONFIG, is_adapter, read_json
from helpers.weights.geometry import Geometry, weight_geometry
from helpers.weights.names import listed


def own_folders(study: OwnModels) -> dict[str, Path]:
    """Folder of every model: base, aligned, then the fine-tuned ones; those of the hub are fetched.

    Raises StudyError, naming the entry, for a model that is not there or an adapter that does not stand upon what it
    would be put on, and TensorMismatch for tokenizers that give the same number to different tokens, so that rows of
    their embeddings cannot be compared.
    """
    folders = {}
    for name, origin in study.origins.items():
        try:
            folders[name] = resolve(origin)
        except StudyError as error:
            raise StudyError(f"{study.name}, model {name}: {error}") from None
    for name in study.tuned:
        _trained_upon_aligned(name, study, folders)
    tokenizers = {name: _tokenizer(name, folder, starts(name, folders)) for name, folder in folders.items()}
    for name, tokenizer in tokenizers.items():
        _same_tokens(tokenizers["base"], tokenizer, folders["base"], folders[name])
    return folders


def starts(name: str, folders: dict[str, Path]) -> tuple[Path, ...]:
    """The models that one stands on if it is an adapter: the nearest first."""
    below = {"base": (), "aligned": ("base",)}.get(name, ("aligned", "base"))
    return tuple(folders[one] for one in below)


def _tokenizer(name: str, folder: Path, starts: tuple[Path, ...]) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(folder, *starts)
    except StudyError as error:
        raise StudyError(f"model {name}: {error}") from None


def _same_tokens(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase, first: Path, second: Path) -> None:
    """Compare the numbers of tokens. Reserved ones that were given a name are said; all others must be the same."""
    common = range(min(len(a), len(b)))
    pairs = zip(*(t.convert_ids_to_tokens(common) for t in (a, b)), strict=True)
    differing = {i: pair for i, pair in enumerate(pairs) if pair[0] != pair[1]}
    named = {i: (one, other) for i, (one, other) in differing.items() if _is_renamed(i, one, other, a, b)}
    other = next((i for i in differing if i not in named), None)
    if other is not None:
        token, instead = differing[other]
        raise TensorMismatch(
            f"the tokenizers in {first} and {second} differ: token {other} is {token!r} in one and {instead!r} in the "
            "other, so rows of their embeddings cannot be compared: save the model's own tokenizer there, or compare "
            "models of one family"
        )
    if named:
        names = listed([f"{one!r} is {other!r}" for one, other in named.values()])
        say(f"the tokenizer in {second} gives reserved tokens of the one in {first} other names ({names})")


def _is_renamed(i: int, one: str, other: str, a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> bool:
    """Whether a token beyond the text's, such as a reserved one, has another name in b that a has nowhere."""
    added = i in a.added_tokens_decoder and i in b.added_tokens_decoder
    return added and other not in a.get_vocab() and one not in b.get_vocab()


def own_geometry(study: OwnModels, folders: dict[str, Path], seed: int, cache: Path) -> Geometry:
    """Energy of every fine-tune's update in the alignment subspace, and overlaps of all updates.

    A fine-tune may be a LoRA adapter upon the aligned model, and this one upon the base. Finished tensors are kept in
    ``cache``, so that a run that was stopped goes on. Raises TensorMismatch and StudyError.
    """
    opened = {name: Checkpoint(folder) for name, folder in folders.items()}
    updates = {"alignment": (opened["aligned"], opened["base"])}
    updates |= {name: (opened[name], opened["aligned"]) for name in study.tuned}
    asked = study.geometry
    return weight_geometry(
        updates,
        subspaces=["alignment"],
        tasks=list(study.tuned),
        controls=asked.controls,
        energy_fractions=asked.energy_fractions,
        random_k_draws=asked.random_k_draws,
        seed=seed,
        device=best_device(),
        cache=cache,
        vocabulary=asked.vocabulary,
        pairs=list(combinations(updates, 2)),
    )


def _trained_upon_aligned(name: str, study: OwnModels, folders: dict[str, Path]) -> None:
    """Raise StudyError for an adapter that says that it was trained upon the base model: its update starts there.

    So do two adapters say of which one goes on from the other, or was trained upon it in memory: put upon the aligned
    one, the first would be counted twice, and which it is no file tells.
    """
    upon, below = _trained_upon(folders[name]), _trained_upon(folders["aligned"])
    base, aligned = study.base.id, study.aligned.id
    named = upon == base != aligned  # not two revisions of one model
    named = named or upon == below or Path(upon).resolve() == folders["base"].resolve()
    if upon and named and is_adapter(folders["aligned"]):
        raise StudyError(
            f"model {name}: the adapter in {folders[name]} was trained upon {upon}, as the aligned model's own was, "
            "and may hold that one already: give both as whole models, each saved after merge_and_unload()"
        )
    if upon and named:
        raise StudyError(
            f"model {name}: the adapter in {folders[name]} was trained upon {upon}, which is the study's base, not its "
            "aligned model: give it as `aligned`, or fine-tunes of the aligned model as `tuned`"
        )


def _trained_upon(folder: Path) -> str:
    """The model that an adapter names as its base; nothing for a full model, or one that names none."""
    return (read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "") if is_adapter(folder) else ""


def own_margins(study: OwnModels, folders: dict[str, Path], seed: int, room: Path | None = None) -> pd.DataFrame:
    """Utility and harm margin of every model (rows of the table ``behaviour``); one model is loaded at a time.

    ``room``: a folder for what one that does not fit in memory leaves on disk.
    """
    s, rows = study.evaluation, []
    problems = evaluation_rows(study, s.utility, s.utility_prompts, seed)
    answers = without_marks(problems["answer"])
    requests = evaluation_rows(study, s.harm, s.harm_prompts, seed)["prompt"].tolist()
    how = (s.batch_size, s.style, s.autocast)
    for name, folder in folders.items():
        model, tokenizer = load_model(folder, starts=starts(name, folders), room=room)
        _give_template(name, tokenizer, folders["aligned"], s.style)
        total, tokens = log_probability(model, tokenizer, problems["prompt"].tolist(), answers, *how)
        odds = log_odds(model, tokenizer, requests, s.compliance_openers, s.refusal_openers, *how)
        rows += behaviour_rows(name, {"utility_margin": total / tokens, "harm_margin": odds})
    return pd.DataFrame(rows)


def _give_template(name: str, tokenizer: PreTrainedTokenizerBase, aligned: Path, style: Style) -> None:
    """Have a model without a chat template, as base models are, asked with that of the aligned one, and say so."""
    if style.startswith("chat") and not tokenizer.chat_template:
        tokenizer.chat_template = load_tokenizer(aligned).chat_template
        if tokenizer.chat_template:
            say(f"model {name} has no chat template of its own: it is asked with that of aligned")
