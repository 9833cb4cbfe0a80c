"""YAML files that people write, read strictly: what could be slow, silently dropped or misread is an error."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from helpers.errors import SettingsError

LARGEST = 200_000  # bytes; the longest file of the project has a tenth of it
DEEPEST = 20  # mappings and lists inside one another
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
POWER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")  # 1e-4, which PyYAML takes for a text
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # make a text read otherwise than it is written
REFUSED = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories: controls, halves of characters, other ends of lines


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, repeated keys, endless nesting, and numbers that read otherwise."""

    depth = 0

    def compose_node(self, parent, index):
        """Refuse aliases, by which a short file can be a huge mapping, and nesting without end."""
        if self.check_event(yaml.AliasEvent):
            _refuse("anchors and aliases (& and *) cannot be used", self.peek_event())
        self.depth += 1
        if self.depth > DEEPEST:
            _refuse(f"it is nested more than {DEEPEST} levels deep", self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node, deep=False):
        """Refuse a key that is there twice, of which the safe loader would take the last."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        seen = set()
        for key in keys:
            if key.value in seen:
                _refuse(f"key {key.value[:40]!r} is there twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node, deep=False):
        """Refuse scalars that are not what they look like: the 31st of February, 010 for eight, 1:30 for ninety."""
        number = node.tag == "tag:yaml.org,2002:int" or (node.tag.endswith(":float") and ":" in node.value)
        if number and not DECIMAL.fullmatch(node.value):
            _refuse(f"{node.value[:40]!r} is no decimal number", node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError):
            _refuse(f"{node.value[:40]!r} is no value that can be read", node)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", POWER, list("-+0123456789"))


def _refuse(problem: str, at: Any) -> None:
    raise yaml.MarkedYAMLError(None, None, problem, at.start_mark)


def parse_yaml(text: str) -> Any:
    """The value that a YAML text holds. Raises SettingsError, one clause without the remedy.

    Refused are, beside what is no YAML, aliases, repeated keys, control characters, nesting deeper than ``DEEPEST`` and
    numbers that YAML reads otherwise than people do.
    """
    try:
        value = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(" ".join(str(error.problem or error.context).split()) + where) from None
    except yaml.YAMLError as error:
        raise SettingsError(" ".join(str(error).split())) from None
    _check_characters(value, "")
    return value


def read_yaml(path: Path, remedy: str) -> Any:
    """The contents of a YAML file of at most ``LARGEST`` bytes, see ``parse_yaml``.

    Raises SettingsError: one sentence on what is wrong, with its place, that ends with ``remedy``.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise SettingsError(f"{path.name} is longer than {LARGEST} bytes: {remedy}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}): {remedy}") from None
    except OSError as error:
        raise SettingsError(f"{path.name} cannot be read ({error.strerror}): {remedy}") from None
    try:
        return parse_yaml(text)
    except SettingsError as error:
        raise SettingsError(f"{path.name} is not valid YAML ({error}): {remedy}") from None


def _check_characters(value: Any, place: str) -> None:
    """Refuse texts, keys among them, that hold characters which nobody sees or which end a line."""
    if isinstance(value, str):
        for character in value:
            hidden = unicodedata.category(character) in REFUSED or character in TURNING
            if hidden and character not in "\n\t":
                raise SettingsError(f"{place or 'a text'} holds the character {character!r}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_characters(key, f"a key of {place}" if place else "a key")
            _check_characters(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_characters(inner, f"{place}.{number}")
