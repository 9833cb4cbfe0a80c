"""Kernels of notebooks forked from the process that executes them, which has imported the libraries: each a fresh one,
without the seconds that the imports take. A notebook that is run by hand starts its kernel as ever; results are the
same.
"""

import asyncio
import importlib
import os
import signal
import sys
import traceback
from multiprocessing import get_context

from jupyter_client import AsyncKernelManager

from helpers.lifeline import end_with

LIGHT = ("ipykernel.kernelapp", "pandas", "matplotlib.pyplot", "seaborn", "scipy.stats", "pydantic", "yaml", "nbformat")
HEAVY = ("torch", "transformers.models.llama.modeling_llama", "transformers.trainer", "tokenizers", "tqdm")
OWN = ("helpers", "pipeline")  # what a kernel imports anew: its code may have changed since


def prepare(heavy: bool) -> None:
    """Import what every notebook imports, ``heavy``: with what trains models, into the process that is to fork."""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for module in LIGHT + (HEAVY if heavy else ()):
        importlib.import_module(module)


class ForkedProcess(get_context("fork").Process):
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
    """Starts the kernel of a notebook as a fork of this process."""

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: object) -> None:
        given = (self.connection_file, options["env"], os.getpid())
        process = self.provisioner.process = ForkedProcess(target=_become_kernel, args=given)
        process.start()
        self.provisioner.pid = self.provisioner.pgid = process.pid


def _become_kernel(connection_file: str, environment: dict[str, str], parent: int) -> None:
    """Be the kernel that waits at a connection file, in the place of ``python -m ipykernel_launcher``."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    end_with(parent)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asyncio.set_event_loop(asyncio.new_event_loop())  # in the place of the one that called this
    os.environ.update(environment)
    sys.path.insert(0, "")
    sys.argv = ["ipykernel_launcher", "-f", connection_file]
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        del sys.modules[name]
    status = 1
    try:
        kernel = IPKernelApp.instance(parent_handle=1)  # which says that there is a parent; end_with watches it
        kernel.initialize(sys.argv[1:])
        kernel.start()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)
