"""One sentence for whatever pydantic finds wrong: where, which key, what was given, what is allowed."""

import difflib
import reprlib
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from helpers.errors import SettingsError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]
_KEY = "[key]"  # pydantic's word, in the place of a problem, for the key itself

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_BOUNDS |= {"multipleOf": "multiple of"}
_LENGTHS = {"minItems": "at least", "maxItems": "at most", "minLength": "at least", "maxLength": "at most"}
_ARTICLES = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
_ARTICLES |= {"null": "nothing"}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def validate(model: type[Model], values: Any, where: str) -> Model:
    """An instance of ``model`` made from ``values``.

    Raises SettingsError: one sentence that starts with ``where`` and names the first bad key and what is allowed.
    """
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"{where} must map these keys to values: {', '.join(model.model_fields)}")
    try:
        return model(**values)
    except ValidationError as error:
        raise SettingsError(f"{where}: {_sentence(model, error)}") from None


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    first = problems[0]
    location, given = first["loc"], first["input"]
    owner, key, location = _owner(model, location)
    name = ".".join(map(_part, location))
    if location and location[-1] == _KEY:
        text = _bad_key(model, first["loc"])
    elif first["type"] == "invalid_key":
        text = f"{name or 'settings'} is a key that is not text: write it as one of {', '.join(owner.model_fields)}"
    elif first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, owner.model_fields, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        text = f"unknown key '{name}'{hint}; allowed keys: {', '.join(owner.model_fields)}"
    elif first["type"] == "missing":
        text = f"key {name!r} is missing; it must be {_allowed(owner, location)}"
    elif first["type"].startswith("union_tag"):
        text = f"{name}.kind must be one of {', '.join(sorted(_tagged(owner.model_fields[key])))}"
    elif first["type"] == "value_error":
        text = f"{name or 'settings'}: {first['ctx']['error']}"
    else:
        text = f"{name} is {shown_value(given)}; it must be {_allowed(owner, location)}"
    more = len(problems) - 1
    return text + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _bad_key(model: type[BaseModel], location: Location) -> str:
    """What is wrong with a key of a mapping whose keys are names of the user's, or of a list of names."""
    *parents, bad, _ = location
    owner, key, shown = _owner(model, tuple(parents))
    entry = owner.model_json_schema()["properties"][key]
    names = entry.get("propertyNames") or {"pattern": next(iter(entry["patternProperties"]))}
    allowed = {"type": "string", **names}
    return f"{'.'.join(map(_part, shown))} has the key {shown_value(bad)}, which must be {_described(allowed)}"


def _owner(model: type[BaseModel], location: Location) -> tuple[type[BaseModel], str, Location]:
    """The settings class that holds the key at ``location``, the key, and the location without tags of unions."""
    owner, key, shown = model, "", []
    for part in location:
        field = owner.model_fields.get(key)
        if field is not None and part in _tagged(field):  # the kind that was chosen, which is no key
            owner, key = _tagged(field)[part], ""
            continue
        inner = _inner(field.annotation) if field is not None else None
        if isinstance(part, str) and inner is not None:
            owner = inner
        if isinstance(part, str):
            key = part
        shown.append(part)
    return owner, key, tuple(shown)


def _tagged(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """The classes of a union that are told apart by a key, by the value of that key."""
    if not field.discriminator:
        return {}
    return {get_args(c.model_fields[field.discriminator].annotation)[0]: c for c in get_args(field.annotation)}


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The settings class inside an annotation such as ``list[Part]`` or ``dict[str, Claim]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _inner(arg))), None)


def _allowed(owner: type[BaseModel], location: Location) -> str:
    """What a key may hold, from the JSON schema of its class."""
    schema = owner.model_json_schema()
    names = [part for part in location if isinstance(part, str)]
    entry = schema["properties"].get(names[-1] if names else "", {})
    for part in reversed(location):
        if not isinstance(part, int):
            break
        entry = entry.get("items", entry)
    return _described(entry)


def _described(entry: dict) -> str:
    if "enum" in entry or "const" in entry:
        return "one of " + ", ".join(map(repr, entry.get("enum", [entry.get("const")])))
    if "anyOf" in entry:
        return " or ".join(_described(option) for option in entry["anyOf"])
    if entry.get("type") == "array":
        lengths = ", ".join(f"{word} {entry[key]}" for key, word in _LENGTHS.items() if key in entry)
        return f"a list{f' of {lengths} entries' if lengths else ''}, each {_described(entry.get('items', {}))}"
    bounds = [f"{sign} {entry[key]:g}" for key, sign in _BOUNDS.items() if key in entry]
    bounds += [f"matching {entry['pattern']}"] if "pattern" in entry else []
    kind = _ARTICLES.get(entry.get("type", ""), "a mapping of keys")
    return f"{kind} {' and '.join(bounds)}".strip()


def _part(part: str | int) -> str:
    """A part of a key's place, on one line whatever it holds."""
    text = str(part)
    return text if text.isprintable() and len(text) <= 60 else shown_value(text)


def shown_value(value: Any) -> str:
    """A value in at most 60 characters, however large it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python does not write out numbers of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
