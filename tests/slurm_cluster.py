"""A real SLURM cluster of one node, this machine, for the tests: started and stopped as plain processes.

``python tests/slurm_cluster.py --install`` gets the programs where they are missing and can be had.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel")
PACKAGES = ("munge", "slurm-wlm")  # Debian's names
SYSTEM = "/usr/sbin"  # not on every user's path
START = 60  # seconds that the cluster may take to be ready
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=300
KillWait=2
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=tests Nodes=one Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs of SLURM that are not on this machine."""
    return [name for name in PROGRAMS if not _which(name)]


def install() -> list[str]:
    """Get the packages, as root where there is apt; returns what is still missing."""
    attempts = []
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        attempts = [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]]
    for command in attempts:
        if not missing():
            break
        print("trying", " ".join(command), flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            subprocess.run(
                command, check=False, timeout=600, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, **quiet
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            print(error)
    return missing()


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster with everything it writes in ``folder``; yields the variables that its commands need.

    Its daemons and all that its jobs started are stopped at the end.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "slurm.conf"
    configuration.write_text(_configuration(folder), encoding="utf-8")
    path = os.pathsep.join([str(_clients(folder, configuration)), os.environ["PATH"], SYSTEM])
    variables = {"SLURM_CONF": str(configuration), "PATH": path}
    key, munge_socket = folder / "munge.key", folder / "munge.socket"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    munged = ["munged", "--foreground", "--force", f"--socket={munge_socket}", f"--key-file={key}"]
    munged += [
        f"--pid-file={folder}/munged.pid",
        f"--seed-file={folder}/munged.seed",
        f"--log-file={folder}/munged.log",
    ]
    with ExitStack() as running:
        for command in (munged, ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", "one"]):
            running.enter_context(_daemon(command, variables, folder))
        _wait_until_idle(variables, folder)
        running.callback(_stop_jobs, variables, folder)
        yield variables


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SYSTEM)


def _clients(folder: Path, configuration: Path) -> Path:
    """A folder with an srun that knows the cluster: Snakemake takes SLURM's variables out of what runs in a job."""
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF="{configuration}" exec {_which("srun")} "$@"\n', encoding="utf-8")
    srun.chmod(0o755)
    return srun.parent


def _configuration(folder: Path) -> str:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    return CONFIGURATION.format(
        host=socket.gethostname().split(".")[0],
        user=psutil.Process().username(),
        ctld_port=ports[0],
        d_port=ports[1],
        folder=folder,
        cpus=2 * os.cpu_count(),  # jobs wait, start and hand over at different moments
        memory=psutil.virtual_memory().total // 2**20,
    )


@contextmanager
def _daemon(command: list[str], variables: dict[str, str], folder: Path) -> Iterator[None]:
    with open(folder / f"{command[0]}.out", "w", encoding="utf-8") as out:
        words = [_which(command[0]), *command[1:]]
        process = subprocess.Popen(words, env={**os.environ, **variables}, stdout=out, stderr=out)
    try:
        yield
    finally:
        started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in started:
            if child.is_running():
                child.kill()


def _stop_jobs(variables: dict[str, str], folder: Path) -> None:
    """Cancel all jobs, wait until they have ended, and kill what is left of them."""
    started = _of_jobs(folder)
    environment = {**os.environ, **variables}
    subprocess.run([_which("scancel"), "--user", psutil.Process().username()], env=environment, check=False)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _said([_which("squeue"), "--noheader"], environment):
        time.sleep(0.5)
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _of_jobs(folder: Path) -> list[psutil.Process]:
    """The scripts of all jobs of the cluster, with everything that they have started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if f"{folder}/spool" in " ".join(process.cmdline()):
                found += [process, *process.children(recursive=True)]
    return found


def _wait_until_idle(variables: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if "idle" in _said([_which("sinfo"), "--noheader", "--format=%T"], {**os.environ, **variables}):
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"the SLURM cluster is not ready after {START} s:\n{logs}")


def _said(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    absent = install() if "--install" in sys.argv[1:] else missing()
    print(f"SLURM is not complete: {', '.join(absent)} missing" if absent else "SLURM is here")
