"""SHA-256 of files that do not change: each is read once, and again only when its size or modification time differs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from hybridstitch.method.progress import OnProgress, Progress, silent

CACHE = ".digests.json"
_CHUNK = 8 * 1024**2


class Digests:
    """Remembered in `folder`, for files in it and elsewhere; a folder that cannot be written remembers nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sha256(self, path: Path, report: OnProgress = silent) -> str:
        """SHA-256 of a file, as hexadecimal digits.

        Raises:
            OSError: it cannot be read.
        """
        entry = self._load().get(self._key(path))
        if isinstance(entry, list) and entry[:2] == _seen(path) and len(entry) == 3:
            return entry[2]
        digest = file_sha256(path, report)
        self.remember({path: digest})
        return digest

    def remember(self, digests: Mapping[Path, str]) -> None:
        """Take over digests that are known, and forget the files that are gone."""
        with contextlib.suppress(OSError):
            entries = {key: entry for key, entry in self._load().items() if (self._folder / key).is_file()}
            entries |= {self._key(path): [*_seen(path), digest] for path, digest in digests.items()}
            self._save(entries)

    def _key(self, path: Path) -> str:
        """By its place in the folder, which may be moved as a whole; that of other files is absolute."""
        return (path.relative_to(self._folder) if self._folder in path.parents else path.resolve()).as_posix()

    def _load(self) -> dict[str, list]:
        with contextlib.suppress(OSError, ValueError):
            content = json.loads((self._folder / CACHE).read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
        return {}

    def _save(self, entries: dict[str, list]) -> None:
        """Whole or not at all; of two that write at once the last one stays, and the other's files are read again."""
        descriptor, name = tempfile.mkstemp(prefix=f".building-{CACHE}", dir=self._folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(entries, stream, indent=1)
            Path(name).replace(self._folder / CACHE)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def file_sha256(path: Path, report: OnProgress = silent) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    steps, digest = Steps(f"reading {path.name}", path.stat().st_size, report), hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            steps.add(len(chunk))
    return digest.hexdigest()


class Steps:
    """Says how far a long write or read is, in megabytes, at most once a second."""

    def __init__(self, what: str, size: int, report: OnProgress) -> None:
        self._what, self._size, self._report = what, size, report
        self._done, self._said = 0, time.monotonic()

    def add(self, size: int) -> None:
        self._done += size
        if time.monotonic() - self._said >= 1:
            self._said = time.monotonic()
            self._report(Progress(self._what, -(-self._done // 10**6), -(-self._size // 10**6)))


def _seen(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
