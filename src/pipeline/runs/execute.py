"""Run one notebook through papermill: ``python -m pipeline.runs.execute NOTEBOOK OUTPUT -p study organism -p seed 0``.

What papermill only warns of is an error here: an unknown parameter, a notebook without a cell tagged ``parameters``.
The executed notebook gets its name only when it has run to its end; a failed one is kept beside it for reading.
"""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import papermill

from helpers.errors import SettingsError, StudyError, Unwritable
from helpers.files import remove, rename, write_text
from helpers.lifeline import WORKFLOW, end_with
from helpers.paths import NOTEBOOKS
from helpers.studies.settings import load_study
from helpers.studies.yaml_files import parse_yaml
from pipeline.runs.command_line import INTERRUPTED, Parser, exit_status
from pipeline.runs.injected import unknown
from pipeline.runs.jobs import Job, note
from pipeline.runs.stages import STAGES

START = 300  # seconds that a notebook's process may take to answer: a busy machine takes more than papermill's 60
FAILURE = ".error"  # ending of the file with the sentence that a notebook stopped with


def execute(notebook: Path, output: Path, parameters: dict, **options: object) -> None:
    """Execute ``notebook`` into ``output``, with further ``options`` of papermill.

    Raises StudyError for unknown parameters, for a cell that fails, when the notebook's process dies, and when the
    result cannot be written.
    """
    known = papermill.inspect_notebook(str(notebook))
    if not known:
        raise StudyError(f"{notebook} has no cell tagged 'parameters': tag the cell that holds its parameters")
    wrong = [name for name in parameters if name not in known]
    if wrong:
        raise unknown(notebook.name, wrong[0], list(known))
    running = _running(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with _stderr_to(_log(output)):
            _through_papermill(notebook, running, parameters, options)
        rename(running, output)
    except papermill.PapermillExecutionError as error:
        failed = output.with_name(f"{output.stem}.failed.ipynb")
        with suppress(OSError):  # of a disk that is full, as the sentence may say
            rename(running, failed)
        raise StudyError(f"{notebook.name} stopped: {error.ename}: {error.evalue} (see {failed})") from None
    except OSError as error:
        raise Unwritable(output, error) from None
    except RuntimeError as error:  # nbclient: the process was killed, or never answered
        raise StudyError(
            f"the process of {notebook.name} ended or did not start ({error}): most often memory ran out, "
            "so run fewer notebooks at a time (CORES=1) or ask for smaller batches"
        ) from None
    finally:
        remove(running)


def _through_papermill(notebook: Path, output: Path, parameters: dict, options: dict) -> None:
    """Execute in a thread, so that Ctrl-C is heard here: nbclient would take it for the death of its process.

    The notebook's process ends by itself once this one has.
    """
    options |= {"kernel_name": "python3", "progress_bar": False, "start_timeout": START, "cwd": str(Path.cwd())}
    thread = ThreadPoolExecutor(1)
    thread.submit(papermill.execute_notebook, str(notebook), str(output), parameters, **options).result()


def _running(output: Path) -> Path:
    """The notebook while it is executed by this process."""
    return output.with_name(f".{output.stem}.running-{os.getpid()}.ipynb")


def _log(output: Path) -> Path:
    """Where the chatter of a notebook goes; what stopped it, if something did, is beside it in ``<name>.error``."""
    return output.parent.parent / "logs" / f"{output.stem}.log"


@contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """Send what this process and its kernel write to stderr (library chatter) to a file instead."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def run(notebook: Path, output: Path, parameters: dict, asked: str = "", **options: object) -> float:
    """Execute a notebook (see ``execute``) and record what it was made from; returns its seconds.

    What it stopped with, if anything, is beside its log. Raises StudyError.
    """
    started, failure = time.monotonic(), _log(output).with_suffix(FAILURE)
    with suppress(OSError):
        failure.unlink(missing_ok=True)
    try:
        execute(notebook, output, parameters, **options)
        seconds = time.monotonic() - started
        _note(notebook, output, parameters, asked or str(parameters.get("seeds", "")), seconds)
    except StudyError as error:
        with suppress(Unwritable):
            write_text(failure, f"{error}\n")
        raise StudyError(str(error)) from None  # of a class that other processes can be sent
    return seconds


def _note(notebook: Path, output: Path, parameters: dict, asked: str, seconds: float) -> None:
    """Record what the run of a study's notebook was made from, where it was executed to its place in the results."""
    if notebook.stem in STAGES and notebook.resolve().parent == NOTEBOOKS and "study" in parameters:
        study = load_study(parameters["study"])
        job = Job(notebook.stem, study, parameters.get("seed"), parameters.get("objective", ""), asked)
        if output.resolve() == job.output.resolve():
            note(job, seconds)


def ended(output: Path, seconds: float) -> str:
    """One line on a notebook that has ended."""
    return f"{'/'.join(output.resolve().parts[-4:-2])} {output.stem}: {seconds:.0f} s"


def _value(name: str, text: str) -> object:
    """The value of a parameter, written as in YAML."""
    try:
        return parse_yaml(text)
    except SettingsError as error:
        raise SettingsError(f"parameter {name} cannot be read ({error}): write it as in a settings file") from None


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    given = parser.parse_args(arguments)
    end_with(os.environ.get(WORKFLOW))

    def executed() -> str:
        parameters = {name: _value(name, text) for name, text in given.parameter}
        return ended(given.output, run(given.notebook, given.output, parameters))

    stopped = f"stopped: {given.output} is as it was before, and the same command begins it again"
    status = exit_status(executed, "" if WORKFLOW in os.environ else stopped)  # else who started this says it for all
    if status == INTERRUPTED:  # ends without waiting for the notebook, which papermill may have saved once more
        remove(_running(given.output))
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
