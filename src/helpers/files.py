"""Files that are either whole or absent: everything is written beside its place, synced, then renamed."""

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import Unwritable

if TYPE_CHECKING:
    from torch import Tensor

# names of what is not yet whole, or is no more; .tmpAbC123 is what safetensors calls a file that it is writing
UNFINISHED = re.compile(r"\..+\.(partial-\d+|old-\d+|running-\d+\.ipynb)|\.tmp\w{6}")


@contextmanager
def beside(final: Path) -> Iterator[Path]:
    """A path to write a file or folder to before it gets its final name; what is there after an error is removed.

    Raises Unwritable where the system, or safetensors, cannot write within.
    """
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield partial
    except BaseException as error:
        remove(partial)
        if isinstance(error, OSError | Unwritable) or type(error).__name__ == "SafetensorError":
            raise Unwritable(final, error) from None
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and can be removed."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that no reader, and no crash, ever sees half of it. Raises Unwritable."""
    with beside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
        rename(partial, path)


def rename(partial: Path, final: Path) -> None:
    """Give a finished file its final name, once its content is on the disk, and see that the name is there too."""
    _sync(partial)
    os.replace(partial, final)
    _sync(final.parent)


def write_tensors(path: Path, tensors: dict[str, "Tensor"]) -> None:
    """Write tensors as one safetensors file, whole or not at all. Raises Unwritable."""
    from safetensors.torch import save_file  # here, so that what only draws figures need not wait for torch

    with beside(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        rename(partial, path)


def replace_folder(partial: Path, final: Path) -> None:
    """Give a finished folder its final name, in place of an older one; its files are synced first."""
    for path in partial.rglob("*"):
        if path.is_file() or path.is_dir():
            _sync(path)
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    if final.exists():
        os.replace(final, old)  # deleted only once the new one is in its place
    os.replace(partial, final)
    _sync(final.parent)
    remove(old)


def sweep(folder: Path) -> list[Path]:
    """Remove what runs that were killed left half-written below a folder; returns what was removed.

    For a moment when nothing writes there.
    """
    found = sorted(path for path in folder.rglob(".*") if UNFINISHED.fullmatch(path.name))
    for path in found:
        remove(path)
    return found


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(path: Path) -> None:
    """Write the hash of a finished file beside it, as ``<name>.sha256``. Raises Unwritable."""
    write_text(path.with_name(f"{path.name}.sha256"), sha256(path))


def is_whole(path: Path) -> bool:
    """Whether a sealed file is there with the contents that it was sealed with."""
    hashed = path.with_name(f"{path.name}.sha256")
    return path.is_file() and hashed.is_file() and hashed.read_bytes() == sha256(path).encode()


def sha256(path: Path) -> str:
    """Hash of a file, or of the names and contents of all files in a folder; 16 hex digits.

    A process reads a file once as long as its size and time stay the same: the models of a study are inputs of many
    results.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return _sha256(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@functools.lru_cache(256)
def _sha256(path: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in files:
        digest.update(file.relative_to(path).as_posix().encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
