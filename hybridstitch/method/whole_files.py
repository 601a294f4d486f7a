"""Files that appear whole or not at all, and that never take the place of another unless they are told to."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def create(path: Path, content: bytes) -> bool:
    """Write a file under a name that is free. Two processes may try at once: one of them gets the name.

    Returns:
        Whether the name was free; where it was not, what has it stays as it is.

    Raises:
        OSError: the file cannot be written.
    """
    with _unfinished(path, content) as whole:
        try:
            os.link(whole, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _claim(whole, path)
    return True


def _claim(whole: Path, path: Path) -> bool:
    """`create` on a file system without hard links: an empty file holds the name for a moment."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        os.replace(whole, path)
    except BaseException:
        path.unlink()
        raise
    return True


def replace(path: Path, content: bytes) -> None:
    """Write a file in the place of what may be there.

    Raises:
        OSError: the file cannot be written.
    """
    with _unfinished(path, content) as whole:
        os.replace(whole, path)


def holds(path: Path, content: bytes) -> bool:
    """Whether a file is there and has this very content."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:  # none, a folder, or one that may not be read
        return False


@contextmanager
def _unfinished(path: Path, content: bytes) -> Iterator[Path]:
    """The content in a hidden file beside `path`, whose name no other process has and is no longer than `path`'s."""
    hidden = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        with hidden.open("xb") as file:
            file.write(content)
        yield hidden
    finally:
        with suppress(FileNotFoundError):
            hidden.unlink()
