"""What people add to the project: functions and classes registered by a decorator, found without being imported.

``@judge("name", …)`` in a module of the folder of judges makes ``name`` a value that a study may choose. The settings
only read the text of those modules, so that checking a study loads neither torch nor what a user's code needs.
A decorator without arguments, as ``@statistic``, registers a function under its own name.
"""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import SettingsError

HELPERS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Tenant:
    """One registered function or class."""

    name: str
    module: str  # without its package
    summary: str  # first line of its docstring
    facts: dict[str, Any]  # the decorator's further arguments, written out as literals


def tenants(folder: str, decorator: str) -> dict[str, Tenant]:
    """All that ``@decorator("name", key=literal, …)`` registers in the modules of ``helpers/<folder>``, by name.

    Raises SettingsError if a module is not Python, an argument is not written out, or a name is given twice.
    """
    found: dict[str, Tenant] = {}
    for path in sorted((HELPERS / folder).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        try:
            here = _registered(path, text, decorator) if f"@{decorator}" in text else ()
        except SyntaxError as error:
            raise SettingsError(f"{path} is not Python at line {error.lineno} ({error.msg}): mend it there") from None
        except (ValueError, IndexError):
            raise SettingsError(f'{path}: write the arguments of @{decorator}("name", …) out as literals') from None
        for tenant in here:
            if tenant.name in found:
                raise SettingsError(f"{path}: there is a {decorator} {tenant.name!r} already: choose another name")
            found[tenant.name] = tenant
    return found


@functools.cache
def _registered(path: Path, text: str, decorator: str) -> tuple[Tenant, ...]:
    """The functions and classes of a module below a decorator, which is called with literals, or bare."""
    found = []
    for node in ast.parse(text).body:
        summary = (ast.get_docstring(node) or "").split("\n")[0] if hasattr(node, "decorator_list") else ""
        for use in getattr(node, "decorator_list", []):
            if getattr(use, "id", "") == decorator:
                found.append(Tenant(node.name, path.stem, summary, {}))
            elif getattr(getattr(use, "func", None), "id", "") == decorator:
                facts = {keyword.arg: ast.literal_eval(keyword.value) for keyword in use.keywords}
                found.append(Tenant(ast.literal_eval(use.args[0]), path.stem, summary, facts))
    return tuple(found)
