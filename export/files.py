"""Folders that appear whole or not at all, links in place of copies, and failures of a disk in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import OnProgress
from hybridstitch.models.digests import Steps

try:
    import fcntl
except ImportError:  # it is Unix's alone
    fcntl = None  # type: ignore[assignment]

SMALL_FILE = 16 * 1024**2
_FICLONE = 0x40049409  # from linux/fs.h
_CHUNK = 16 * 1024**2
_SPARE = 64 * 1024**2  # bytes that a disk keeps free after the largest write


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `target` if the block ends without an error.

    Raises:
        HybridStitchError: the disk fills up, or the place cannot be written.
    """
    make_folder(target.parent)
    with disk_errors(target.parent):
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        partial.chmod(0o755)
        try:
            yield partial
            if target.exists():
                old = partial.with_suffix(".old")
                target.rename(old)
                partial.rename(target)
                shutil.rmtree(old)
            else:
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def refuse_foreign(folder: Path, marks: Sequence[str]) -> None:
    """Make sure that a folder which is to be replaced is an earlier export's.

    Args:
        marks: files of which an earlier export has at least one.

    Raises:
        HybridStitchError: somebody else's files are in it, or it is a file.
    """
    if folder.is_dir() and (not any(folder.iterdir()) or any((folder / mark).is_file() for mark in marks)):
        return
    if folder.exists():
        raise HybridStitchError(f"{folder} was not made by an export and would be replaced; choose another --out")


def remove_leftovers(folder: Path, names: Sequence[str]) -> None:
    """Remove what an interrupted export of these folders left: nobody else may be exporting there (the caller holds the
    lock)."""
    for name in names:
        for ending in ("partial", "old"):
            for leftover in folder.glob(f".{name}.*.{ending}"):
                shutil.rmtree(leftover, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        HybridStitchError: it cannot be made, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise HybridStitchError(f"folder {folder} cannot be written ({error.strerror}); choose another --out") from None


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Tell of a full disk in one line; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HybridStitchError(f"no space left in {folder}; free some or choose another --out") from None
        raise


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse a write that cannot end.

    Raises:
        HybridStitchError: fewer than `needed` bytes, and those that a disk keeps free, are there where `folder` lies.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise HybridStitchError(
            f"not enough disk space in {folder} for {what}: {_gigabytes(needed + _SPARE)} needed "
            f"({_gigabytes(needed)} to write, and {_gigabytes(_SPARE)} that stay free), {_gigabytes(free)} free"
        )


def place(source: Path, target: Path, report: OnProgress) -> None:
    """Put a file of weights beside a graph, without doubling it where the file system allows.

    A small file is copied. A large one is cloned (btrfs, xfs), else hard-linked, else copied. TensorRT and ONNX
    Runtime read hard links; the onnx package does not load external data from them, and no ONNX reader follows
    symbolic links out of the graph's folder.
    """
    source = source.resolve()  # the hub's cache keeps its files behind symbolic links
    if source.stat().st_size <= SMALL_FILE:
        shutil.copyfile(source, target)
        return
    if _clone(source, target):
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP):
            raise
        _copy(source, target, report)


def _clone(source: Path, target: Path) -> bool:
    """A copy that shares its blocks with the original until one of them changes; see ioctl_ficlone(2)."""
    if fcntl is None:
        return False
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer, _FICLONE, reader.fileno())
        except OSError:
            target.unlink()
            return False
    return True


def _copy(source: Path, target: Path, report: OnProgress) -> None:
    size = source.stat().st_size
    check_space(target.parent, size, f"a copy of {source.name}")
    steps = Steps(f"copying {source.name}", size, report)
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            steps.add(len(chunk))


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
