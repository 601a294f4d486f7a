"""Writing that survives a crash, and what can go wrong with a disk in one line."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.digests import file_sha256

UNFINISHED = ".building-"  # the start of the name of what is not whole yet


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what can go wrong while a folder is written into one line.

    Raises:
        HybridStitchError: no space left, no right to write, or a file elsewhere, to be copied, that cannot be read.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(folder) from None
        reason = error.strerror or str(error)
        if error.filename is not None and error.filename2 is None and not _on_the_way(Path(error.filename), folder):
            raise HybridStitchError(f"{error.filename} cannot be read: {reason}") from None
        raise HybridStitchError(f"engines cannot be written to {folder}: {reason}; choose another --out") from None


def no_space(folder: Path) -> HybridStitchError:
    """The error of a disk that filled up."""
    free = shutil.disk_usage(_existing(folder)).free / 2**30
    return HybridStitchError(f"no space left to write {folder}: {free:.1f} GiB free; make room or choose another --out")


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what cannot end.

    Raises:
        HybridStitchError: less than `needed` bytes are free.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise HybridStitchError(
            f"not enough disk for {what}: about {needed / 2**30:.1f} GiB needed in {folder}, "
            f"{free / 2**30:.1f} GiB free; make room or choose another --out"
        )


def folder_sha256(folder: Path) -> str:
    """SHA-256 over the names and the content of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old text or the new one, also after a crash."""
    space = path.with_name(f"{UNFINISHED}{path.name}")
    space.write_text(text, encoding="utf-8")
    flush(space)
    space.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Make a file (or a folder's entries) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders."""
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _on_the_way(path: Path, folder: Path) -> bool:
    """Whether a path is the folder, in it, or above it."""
    path, folder = path.absolute(), folder.absolute()
    return path == folder or folder in path.parents or path in folder.parents


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
