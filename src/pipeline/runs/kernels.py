"""Kernels of notebooks forked from a process that has imported the libraries: a fresh one each, without its seconds.

A nursery (``python -m pipeline.runs.kernels``) imports what every notebook imports, none of the project's own modules,
and waits at a socket. The command that Jupyter starts for a kernel is a small relay, which passes arguments,
environment, folder and outputs on to the nursery and ends with the kernel that this forks for it. A notebook that is
run by hand starts its kernel as ever; results are the same.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jupyter_client import AsyncKernelManager

from helpers.lifeline import end_with

SOCKET = "SUBSPACES_NURSERY"  # names the socket
LIGHT = ("ipykernel.kernelapp", "pandas", "matplotlib.pyplot", "seaborn", "scipy.stats", "pydantic", "yaml", "nbformat")
HEAVY = ("torch", "transformers.models.llama.modeling_llama", "transformers.trainer", "tokenizers", "tqdm")
BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
RELAY = f"""
import json, os, socket, sys
about = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "pid": os.getpid()}}
nursery = socket.socket(socket.AF_UNIX)
nursery.connect(os.environ["{SOCKET}"])
socket.send_fds(nursery, [b"."], [0, 1, 2])
nursery.sendall(json.dumps(about).encode())
nursery.shutdown(socket.SHUT_WR)
sys.exit(int(nursery.recv(16) or b"1"))
"""


class ForkedKernel(AsyncKernelManager):
    """Starts the kernel of a notebook from a nursery."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """The relay's command, in the place of ``python -m ipykernel_launcher``."""
        return [sys.executable, "-I", "-S", "-c", RELAY, "-f", self.connection_file]


@contextmanager
def nursery(heavy: bool) -> Iterator[dict[str, str]]:
    """Run a nursery; yields the variables by which kernels are forked from it. ``heavy``: with what trains models."""
    with tempfile.TemporaryDirectory(prefix="nursery-") as name:
        place = Path(name) / "socket"
        modules = LIGHT + (HEAVY if heavy else ())
        command = [sys.executable, "-m", __spec__.name, str(place), str(os.getpid()), *modules]
        apart = {"stdin": subprocess.DEVNULL, "start_new_session": True}  # Ctrl-C is heard by who started it
        process = subprocess.Popen(command, env={**os.environ, **BACKEND}, **apart)
        try:
            yield {SOCKET: str(place)}
        finally:
            process.kill()
            process.wait()


def serve(place: Path, modules: list[str]) -> None:
    """Import the modules, then fork a kernel for each relay that comes, until this process is killed."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{place}.new")
        door.listen(64)
        os.rename(f"{place}.new", place)  # relays may connect, and wait, from now on
        for module in modules:
            importlib.import_module(module)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how those that care for a kernel end
        while True:
            relay, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _care(relay)
            relay.close()


def _care(relay: socket.socket) -> None:
    """Fork the kernel, wait for its end and tell the relay its status; in a process of its own, which ends here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, fds, _, _ = socket.recv_fds(relay, 1, 3)
    kernel = os.fork()
    if kernel == 0:
        with relay, relay.makefile("rb") as stream:
            about = json.load(stream)
        _kernel(about, fds)
    _, status = os.waitpid(kernel, 0)
    with suppress(OSError):
        relay.sendall(str(os.waitstatus_to_exitcode(status) % 256).encode())
    os._exit(0)


def _kernel(about: dict, fds: list[int]) -> None:
    """Become the kernel that the relay stands for; it dies with the relay."""
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    os.environ.clear()
    os.environ.update({**about["env"], **BACKEND})
    os.chdir(about["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for process in (about["pid"], os.environ.pop("JPY_PARENT_PID", None)):  # the latter: who executes the notebook
        end_with(process)
    sys.argv = ["ipykernel_launcher", *about["argv"]]
    sys.path.insert(0, "")
    status = 1
    try:
        from ipykernel.kernelapp import IPKernelApp

        kernel = IPKernelApp.instance(parent_handle=1)  # which says that there is a parent; end_with watches it
        kernel.initialize(about["argv"])
        kernel.start()
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    end_with(sys.argv[2])
    serve(Path(sys.argv[1]), sys.argv[3:])
