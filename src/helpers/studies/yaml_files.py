"""YAML files that people write, read strictly: what could be slow, silently dropped or misread is an error."""

import copy
import functools
import re
from pathlib import Path
from typing import Any

import yaml

from helpers.errors import SettingsError

LARGEST = 200_000  # bytes; the longest file of the project has a tenth of it
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
POWER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")  # 1e-4, which PyYAML takes for a text


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, repeated keys, and numbers that read otherwise."""

    def compose_node(self, parent, index):
        """Refuse aliases, by which a short file can be a huge mapping."""
        if self.check_event(yaml.AliasEvent):
            _refuse("anchors and aliases (& and *) cannot be used", self.peek_event())
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        """Refuse a key that is there twice, of which the safe loader would take the last."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                _refuse(f"key {key.value[:40]!r} is there twice", key)
            seen.add(str(key.value))
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

    Refused are, beside what is no YAML, aliases, repeated keys, control characters, nesting without end and numbers
    that YAML reads otherwise than people do.
    """
    try:
        return copy.deepcopy(_loaded(text))
    except RecursionError:
        raise SettingsError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "context", None) or error
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(" ".join(str(problem).split()) + where) from None


@functools.lru_cache(64)
def _loaded(text: str) -> Any:
    """What a text holds, read once a process: a report asks for the same settings some four times."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path, remedy: str) -> Any:
    """The contents of a YAML file of at most ``LARGEST`` bytes, see ``parse_yaml``.

    Raises SettingsError: one sentence on what is wrong, with its place, that ends with ``remedy``.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise SettingsError(f"it is longer than {LARGEST} bytes")
        return parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}): {remedy}") from None
    except OSError as error:
        raise SettingsError(f"{path.name} cannot be read ({error.strerror}): {remedy}") from None
    except SettingsError as error:
        raise SettingsError(f"{path.name} is not valid YAML ({error}): {remedy}") from None
