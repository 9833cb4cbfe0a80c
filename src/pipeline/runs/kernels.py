"""Kernels of notebooks forked from a server that has imported the libraries: each a fresh one, without the seconds that
the imports take. A notebook that is run by hand starts its kernel as ever; results are the same.

The server is multiprocessing's own, a process without threads, of which each process that executes notebooks has one.
"""

import multiprocessing
import os
import signal
import sys
from multiprocessing.reduction import DupFd
from tempfile import gettempdir
from types import ModuleType
from uuid import uuid4

from jupyter_client import AsyncKernelManager

from helpers.lifeline import end_with

LIGHT = (
    "helpers",  # before nbformat, whose import it spares a second
    "ipykernel.kernelapp", "pandas", "matplotlib.pyplot", "seaborn", "scipy.stats", "pydantic", "yaml", "nbformat",
)  # fmt: skip
HEAVY = ("torch", "transformers.models.llama.modeling_llama", "transformers.trainer", "tokenizers", "tqdm")
OWN = ("helpers", "pipeline")  # what a kernel imports anew: its code may have changed since


def prepare(heavy: bool) -> None:
    """Have the server import what every notebook imports, ``heavy``: with what trains models."""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    multiprocessing.set_forkserver_preload([*LIGHT, *(HEAVY if heavy else ())])
    sys.modules["__main__"] = ModuleType("__main__")  # else every kernel would import this process's own first


class ForkedProcess(multiprocessing.get_context("forkserver").Process):
    """A forked process with what ``jupyter_client`` expects of a ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        return self.exitcode

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


class ForkedKernel(AsyncKernelManager):
    """Starts the kernel of a notebook as a fork of the server, and talks to it through sockets that are files.

    A port could be taken by another process between the moment it is found free and that at which the kernel binds it.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(**options, transport="ipc", ip=f"{gettempdir()}/kernel-{uuid4().hex[:12]}")

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: object) -> None:
        given = (self.connection_file, options["env"], os.getpid(), DupFd(2))
        process = self.provisioner.process = ForkedProcess(target=_become_kernel, args=given)
        process.start()
        self.provisioner.pid = self.provisioner.pgid = process.pid


def _become_kernel(connection_file: str, environment: dict[str, str], parent: int, stderr: DupFd) -> None:
    """Be the kernel that waits at a connection file, in the place of ``python -m ipykernel_launcher``."""
    from ipykernel.kernelapp import IPKernelApp

    os.dup2(stderr.detach(), 2)
    os.setsid()
    end_with(parent)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    sys.path.insert(0, "")
    sys.argv = ["ipykernel_launcher", "-f", connection_file]
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        del sys.modules[name]
    kernel = IPKernelApp.instance(parent_handle=1)  # which says that there is a parent; end_with watches it
    kernel.initialize(sys.argv[1:])
    kernel.start()
