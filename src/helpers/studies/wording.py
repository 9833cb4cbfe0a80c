"""What all settings have in common, and one sentence for whatever pydantic finds wrong in them."""

import difflib
import re
import reprlib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from helpers.errors import SettingsError

_NOUNS = {"int_type": "a whole number", "float_type": "a number", "string_type": "text", "bool_type": "true or false"}
_NOUNS |= {"list_type": "a list", "dict_type": "a mapping of keys", "model_type": "a mapping of keys"}
_NOUNS["model_attributes_type"] = "a mapping of keys"  # of a union of them
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


class Section(BaseModel):
    """A block of settings: unknown keys and silent type conversions are errors; read-only once loaded."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        for key in set(values) - set(cls.model_fields) if isinstance(values, dict) else ():
            close = difflib.get_close_matches(str(key), cls.model_fields, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"unknown key {shown_value(key)}{hint}; allowed keys: {', '.join(cls.model_fields)}")
        return values


Settings = TypeVar("Settings", bound=Section)


def validate(model: type[Settings], values: Any, where: str) -> Settings:
    """An instance of ``model`` made from ``values``.

    Raises SettingsError: one sentence that starts with ``where`` and names the first bad key and what it must be.
    """
    if not isinstance(values, dict):
        raise SettingsError(f"{where} must map these keys to values: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f" (and {len(others)} more problem{'s' * (len(others) > 1)})" if others else ""
        raise SettingsError(f"{where}: {_sentence(values, first)}{more}") from None


def _sentence(values: dict, problem: dict) -> str:
    place, kind = _place(values, problem["loc"]), problem["type"]
    if kind == "value_error":
        return ": ".join(filter(None, (place, str(problem["ctx"]["error"]))))
    if kind in ("missing", "union_tag_not_found"):
        return f"key {place + '.kind' * (kind != 'missing')!r} is missing"
    if kind == "union_tag_invalid":
        given, known = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
        return f"{place}.kind is {shown_value(given)}; it must be one of {known}"
    if kind == "literal_error":
        must = f"be one of {problem['ctx']['expected']}"
    else:
        must = f"be {_NOUNS[kind]}" if kind in _NOUNS else re.sub(r"^\w+ should ", "", problem["msg"])
    quoted = ", so put it in quotes" if kind == "string_type" and not isinstance(problem["input"], dict | list) else ""
    return f"{place} is {shown_value(problem['input'])}; it must {must}{quoted}"


def _place(values: Any, location: tuple[str | int, ...]) -> str:
    """The keys down to a problem, without what pydantic puts among them: tags of unions, and ``[key]``."""
    keys = []
    for part in location:
        here = values if isinstance(values, dict) else {}
        if isinstance(part, int) and isinstance(values, list):
            values = values[part]
        elif values is not here or part == "[key]" or (part not in here and part == here.get("kind")):
            continue
        else:
            values = here.get(part)
        keys.append(shown_value(part).strip("'"))
    return ".".join(keys)


def shown_value(value: Any) -> str:
    """A value in at most 60 characters, however large it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python does not write out numbers of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
