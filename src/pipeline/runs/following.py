"""What a workflow says while it runs: kept in a log, the sentences of notebooks repeated, and why it stopped."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from pipeline.runs.execute import FAILURE
from pipeline.runs.profiles import Profile

PATIENCE = 10  # seconds for the workflow to clear up after Ctrl-C
LOOK = 1.0  # seconds between two looks at what notebooks elsewhere say
SENTENCE = "error: "  # how the sentence of a notebook that stopped begins
CAUSE = re.compile(r"\w*(error|exception)\b|.* error: ", re.IGNORECASE)  # in the line that says why a workflow stopped
KEPT = 5000  # lines that are remembered, where the disk has no room for the log


class Log:
    """Passes what a process writes to stderr on to a file, and the sentences of notebooks among it to this stderr."""

    def __init__(self, process: subprocess.Popen, path: Path):
        self.sentences: list[str] = []
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._thread = threading.Thread(target=self._pass_on, args=(process.stderr, path), daemon=True)
        self._thread.start()

    def _pass_on(self, stream, path: Path) -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        for line in stream:
            self._lines.append(line.strip())
            if line.startswith(SENTENCE):
                self.sentences.append(line)
                print(line, end="", file=sys.stderr, flush=True)
            with suppress(OSError), open(path, "a", encoding="utf-8") as file:
                file.write(line)

    def end(self) -> None:
        """Wait for the last line."""
        self._thread.join(PATIENCE)

    def cause(self) -> str:
        """The line that says why the workflow stopped."""
        return cause("\n".join(self._lines))


def follow(workflow: subprocess.Popen, said: Path | None) -> int:
    """Exit status of a workflow, once it has ended; after Ctrl-C, which it hears too, its clearing up is waited for.

    What notebooks that run elsewhere write to the file ``said`` when they end is repeated here.
    """
    try:
        return workflow.wait() if said is None else _repeat_progress(said, workflow)
    except KeyboardInterrupt:
        try:
            workflow.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # it did not hear: the signal was sent to this process alone
            workflow.send_signal(signal.SIGINT)
            workflow.wait()
        raise


def _repeat_progress(said: Path, workflow: subprocess.Popen) -> int:
    repeated, ended = 0, False
    while not ended:
        ended = workflow.poll() is not None
        lines = said.read_text(encoding="utf-8").splitlines() if said.exists() else []
        for line in lines[repeated:]:
            print(line, flush=True)
        repeated = len(lines)
        time.sleep(0 if ended else LOOK)
    return workflow.returncode


def repeat_failures(folder: Path, profile: Profile, earlier: set) -> list[str]:
    """Say what stopped notebooks that ran elsewhere, and so could not say it here, and where their jobs' logs are.

    ``earlier`` are the logs that there were before. Returns what was said; nothing where notebooks run here.
    """
    if not profile.remote:
        return []
    stopped = [
        f"{folder.name}/{path.parts[-3]} {path.stem}: {path.read_text(encoding='utf-8').strip()}"
        for path in sorted(folder.glob(f"*/logs/*{FAILURE}"))
    ]
    logs = [f"log of a job that failed: {path}" for path, _ in sorted(profile.logs() - earlier)]
    for line in [*stopped, *logs]:
        print(line, file=sys.stderr)
    return [*stopped, *logs]


def cause(text: str) -> str:
    """Why Snakemake stopped: the first line of an error, with the next where it only names it; else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if CAUSE.match(line):
            return (f"{line} {after}" if line.endswith(":") else line)[:300].strip()
    return lines[-1][:300] if lines else "no reason given"
