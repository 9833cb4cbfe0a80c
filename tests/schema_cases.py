"""Bad values for every key of a schema, made from the schema alone: what it forbids, of each of many kinds."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

MISSING = object()  # in the place of a value: the key is taken out
HUGE = 10**400  # a number that no float holds
HIDDEN = ["a\x00b", "a\u202eb", "a\u2028b", "a\x1b[2Jb"]  # characters that no text of a setting may hold
ANYTHING = ["", "  ", "seven", "семь", "x" * 20_000, -1, 0, 1.5, HUGE, -HUGE, True, None, [], {}, [None], [[]]]
ANYTHING += [{"no_such_key": 1}, math.nan, math.inf, -math.inf]


@dataclass(frozen=True)
class Case:
    """A value for the key at ``path``, and how it is bad."""

    path: tuple[str | int, ...]
    value: Any
    key: str  # that the error must name

    @property
    def name(self) -> str:
        """For the test's report."""
        value = "missing" if self.value is MISSING else repr(self.value)[:20].encode("unicode_escape").decode()
        return f"{'.'.join(map(str, self.path))}={value}"


def cases(schema: dict, values: dict) -> Iterator[Case]:
    """Bad values for every key that a schema has where ``values``, which are right, have a place for it."""
    yield from _of_object(schema, schema, values, ())


def applied(case: Case, values: dict) -> dict:
    """The values with the case's in its place."""
    changed = place = copy.deepcopy(values)
    *parents, last = case.path
    for part in parents:
        place = place[part]
    if case.value is MISSING:
        del place[last]
    else:
        place[last] = case.value
    return changed


def _of_object(root: dict, entry: dict, values: dict, path: tuple) -> Iterator[Case]:
    yield Case((*path, "no_such_key"), 1, "no_such_key")
    for key in entry.get("required", []):
        yield Case((*path, key), MISSING, key)
    for key, inner in entry.get("properties", {}).items():
        yield from _of_key(root, inner, values.get(key), (*path, key), key)


def _of_key(root: dict, entry: dict, value: Any, path: tuple, key: str) -> Iterator[Case]:
    allowed = Draft202012Validator({**entry, "$defs": root.get("$defs", {})})
    for bad in [*ANYTHING, *_at_bounds(_plain(root, entry, value))]:
        unwritable = isinstance(bad, float) and not math.isfinite(bad)
        blank = isinstance(bad, str) and not bad.strip()
        if unwritable or blank or not allowed.is_valid(bad):
            yield Case(path, bad, key)
    plain = _plain(root, entry, value)
    if plain.get("type") == "string":
        yield from (Case(path, bad, key) for bad in HIDDEN)
    if "properties" in plain and isinstance(value, dict):
        yield from _of_object(root, plain, value, path)
    elif isinstance(value, dict) and value and (inner := _of_names(plain)):
        first = next(iter(value))
        yield Case((*path, "no such name"), value[first], key)
        yield from _of_key(root, inner, value[first], (*path, first), first)
    elif isinstance(value, list) and value and "items" in plain:
        yield from _of_key(root, plain["items"], value[0], (*path, 0), key)


def _of_names(entry: dict) -> dict | None:
    """What the keys of a mapping hold whose keys are names."""
    return next(iter(entry.get("patternProperties", {}).values()), None) or entry.get("additionalProperties")


def _plain(root: dict, entry: dict, value: Any) -> dict:
    """The entry itself: without references, ``or nothing``, and other kinds than that of the value."""
    while True:
        if "$ref" in entry:
            entry = root["$defs"][entry["$ref"].rsplit("/", 1)[1]]
        elif "discriminator" in entry:
            kind = entry["discriminator"]["propertyName"]
            entry = {"$ref": entry["discriminator"]["mapping"][(value or {}).get(kind, "organism")]}
        elif "anyOf" in entry:
            entry = next(option for option in entry["anyOf"] if option.get("type") != "null")
        else:
            return entry


def _at_bounds(entry: dict) -> Iterator[Any]:
    """Values at the edges of what an entry allows, some inside, some out."""
    for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if bound in entry:
            yield from (entry[bound] - 1, entry[bound], entry[bound] + 1)
    if "multipleOf" in entry:
        yield entry["minimum"] + 1
    if "enum" in entry or "const" in entry:
        yield from (str(word).upper() + " " for word in entry.get("enum", [entry.get("const")])[:1])
    if "pattern" in entry:
        yield from ("../up", "a/b", "A B", "a\n")
    for item in _items(entry):
        yield from ([item, item], [item, None], [item] * (entry.get("maxItems", 0) + 1))


def _items(entry: dict) -> list:
    """An item that a list of simple values may hold."""
    items = entry.get("items", {}) if entry.get("type") == "array" and entry.get("uniqueItems") else {}
    return items.get("enum", {"number": [0.5], "string": ["word"]}.get(items.get("type"), []))[:1]
