"""From the arguments of ``make card`` to settings: a study of your own models, made in memory."""

import hashlib
import re
import shlex
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from helpers.errors import SettingsError
from helpers.models.language import Language
from helpers.studies.settings import OwnModels, Study, available, load_study
from helpers.studies.wording import shown_value, validate

NAMED = re.compile(r"([a-z0-9][a-z0-9.-]{0,39})=(.+)")
COMMIT = re.compile(r"[^@\s]+/[^@\s]+@[^@\s]+")
LARGE = 5e8  # parameters from which a card asks fewer prompts
PROMPTS = {"invented": 100, "small": 32, "large": 16}
BATCH = 48  # prompts at a time, of real models: a token more of an answer reads all weights once
OPENERS = (["Sure", "Here", "To"], ["I", "Sorry", "As"])  # first tokens, so that one pass is enough for all


def origin(text: str) -> dict[str, str]:
    """A folder, a ``.gguf`` file, or ``owner/name@commit`` of the hub, as an origin. Raises SettingsError."""
    path = Path(text).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return {"origin": "folder", "path": str(path.resolve())}
    if COMMIT.fullmatch(text):
        name, revision = text.split("@")
        return {"origin": "hub", "id": name, "revision": revision}
    raise SettingsError(
        f"{shown_value(text)} is neither a folder or .gguf file here nor a model of the hub with its revision: "
        "give a path, or owner/name@commit"
    )


def named(text: str) -> dict[str, str]:
    """The fine-tunes in ``name=path name2=path2``, or one path, whose folder names it. Raises SettingsError."""
    if Path(text).expanduser().exists():
        return {_name_of(text): text}
    found: dict[str, str] = {}
    for word in _words(text):
        name, place = _parted(word)
        if name in found:
            raise SettingsError(f"two fine-tunes are named {name!r}: give each a name, as in TUNED='a=path b=path'")
        found[name] = place
    if not found:
        raise SettingsError("no fine-tune is given: say TUNED=path, or TUNED='name=path name2=path2'")
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise SettingsError(
            f"{shown_value(text)} opens a quote that is not closed: put a path with an apostrophe in double quotes, or "
            "a backslash before the apostrophe"
        ) from None


def _parted(word: str) -> tuple[str, str]:
    """Name and place of one fine-tune. Raises SettingsError for a name with other characters than names have."""
    if fits := NAMED.fullmatch(word):
        return fits[1], fits[2]
    name, equals, place = word.partition("=")
    if equals and place and "/" not in name and not Path(word).expanduser().exists():
        what = "names have small letters, digits, '.' and '-' only, 40 at most, and begin with a letter or digit"
        raise SettingsError(f"{shown_value(name)} cannot name a fine-tune: {what}, as in {_name_of(name)}={place}")
    return _name_of(word), word


def _name_of(place: str) -> str:
    """A name from the last part of a path or id."""
    last = re.sub(r"[^a-z0-9.-]+", "-", Path(place.split("@")[0]).name.lower()).strip("-.")
    return last[:40] if last not in ("", "base", "aligned", "alignment") else "tuned"


def settings(base: str, aligned: str, tuned: str) -> dict:
    """The part of a card's settings that names its models. Raises SettingsError."""
    models = {"base": origin(base), "aligned": origin(aligned)}
    fine_tunes = {name: origin(place) for name, place in named(tuned).items()}
    digest = hashlib.sha256(repr((models, fine_tunes)).encode()).hexdigest()[:6]
    name = f"card-{next(iter(fine_tunes))}-{digest}"
    return {"name": name, "title": "Report card", "kind": "own-models", **models, "tuned": fine_tunes}


def organism_of(tokenizer: PreTrainedTokenizerBase) -> Study | None:
    """The study whose invented language a tokenizer speaks, or None for a natural one."""
    words = tokenizer.get_vocab()
    if not {"<bos>", "SORRY", "WITH"} <= set(words):
        return None
    studies = [study for study in map(load_study, available()) if study.embedded and isinstance(study, Study)]
    speakers = [study for study in studies if set(Language(study.language).vocabulary) == set(words)]
    return next((study for study in speakers if study.evaluation.harm == "restricted"), None)


def card_study(models: dict, tokenizers: list[PreTrainedTokenizerBase], parameters: int, prompts: int = 0) -> OwnModels:
    """Settings of a card: defaults for real models, or those of the study whose organisms they are.

    ``tokenizers``: of the aligned and the fine-tuned models; they are asked through their chat template if all have
    one. ``parameters``: of one model, 0 if not known; ``prompts``: how many of each kind, if not the default.
    """
    organism = organism_of(tokenizers[0])
    size = "invented" if organism else "large" if parameters > LARGE else "small"
    many = prompts or PROMPTS[size]
    margins = many if organism else max(2, many // 2)  # shares need more prompts than means
    asked = {"utility_prompts": margins, "harm_prompts": many, "batch_size": BATCH}
    if organism:
        s = organism.evaluation
        asked |= {"utility": s.utility, "harm": s.harm, "style": s.style, "batch_size": 50}
        openers, language = (s.compliance_openers, s.refusal_openers), organism.language.model_dump()
    else:
        chat = all(tokenizer.chat_template for tokenizer in tokenizers)
        asked |= {"utility": "gsm-symbolic-easy", "harm": "advbench", "style": "chat" if chat else "alpaca"}
        openers, language = OPENERS, None
    asked |= {"compliance_openers": openers[0], "refusal_openers": openers[1]}
    geometry = {"fractions": [0.1], "energy_fractions": [0.5], "vocabulary": "intersection"}
    values = models | {"evaluation": asked, "geometry": geometry} | ({"language": language} if language else {})
    return validate(OwnModels, values, "the card's arguments")
