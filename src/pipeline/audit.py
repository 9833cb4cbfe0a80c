"""Known vulnerabilities of the pinned packages: ``python -m pipeline.audit``, by pip-audit in a folder of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.errors import StudyError
from helpers.paths import ROOT
from pipeline.runs.command_line import Parser

AUDITOR = "pip-audit==2.10.1"
PINS = ROOT / "constraints.txt"
MINUTES = 5
UNREACHED = "nothing was audited, as {} cannot be reached from here: run it where there is a network"


def audit(pins: Path, index: str = "") -> list[dict]:
    """What pip-audit finds of each package that a file pins: ``name``, ``version`` and ``vulns``, or a ``skip_reason``.

    ``index``: of packages, where it is not pip's own. Raises StudyError where pip-audit or its service is out of reach.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name) / "tool", Path(name) / "found.json"
        chosen = ["--index-url", index] if index else []
        _run(["-m", "pip", "install", "--quiet", "--target", str(folder), *chosen, AUDITOR], "", "pip-audit")
        options = ["--requirement", str(pins), "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        options += ["--format", "json", "--output", str(found)]
        _run(["-m", "pip_audit", *options], str(folder), "the list of known vulnerabilities", found)
        packages = json.loads(found.read_text(encoding="utf-8"))["dependencies"]
    if all("skip_reason" in package for package in packages):  # what answers has an index's address and no such list
        raise StudyError(UNREACHED.format("the list of known vulnerabilities"))
    return packages


def flaws_of(packages: list[dict]) -> list[str]:
    """A line for each known vulnerability."""
    return [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}"
        for package in packages
        for flaw in package.get("vulns", [])
    ]


def _run(command: list[str], path: str, what: str, result: Path | None = None) -> None:
    """Run Python with a command; its end with a ``result`` counts, whatever the status. Raises StudyError."""
    environment = os.environ | ({"PYTHONPATH": path} if path else {})
    try:
        command = [sys.executable, *command]
        status = subprocess.run(command, capture_output=True, env=environment, timeout=60 * MINUTES).returncode
    except subprocess.TimeoutExpired:
        status = None
    if status != 0 and not (result and result.exists() and result.stat().st_size):
        raise StudyError(UNREACHED.format(what))


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit status is 0 only if no vulnerability is known."""
    parser = Parser(__doc__)
    parser.add_argument("--pins", type=Path, default=PINS, help="file of requirements; default: constraints.txt")
    parser.add_argument("--index", default="", help="package index; default: pip's own")
    given = parser.parse_args(arguments)
    try:
        packages = audit(given.pins, given.index)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    flaws, known = flaws_of(packages), [package for package in packages if "skip_reason" not in package]
    asked = f"{len(known)} of {len(packages)} packages of {given.pins.name}"
    print("\n".join([*flaws, f"{len(flaws) or 'no'} known vulnerabilities in {asked}"]))
    return bool(flaws)


if __name__ == "__main__":
    sys.exit(main())
