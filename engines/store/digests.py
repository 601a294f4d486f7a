"""SHA-256 of files that do not change: each is read once, and again only when its size or modification time differs."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .disk import UNFINISHED, file_sha256

CACHE = ".digests.json"


class Digests:
    """Of the files in a folder, remembered beside them; a folder that cannot be written is read each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file in the folder, as hexadecimal digits.

        Raises:
            OSError: it cannot be read.
        """
        entry = self._load().get(self._key(path))
        if isinstance(entry, list) and entry[:2] == _seen(path) and len(entry) == 3:
            return entry[2]
        digest = file_sha256(path)
        self.remember({path: digest})
        return digest

    def remember(self, digests: Mapping[Path, str]) -> None:
        """Take over digests that are known, and forget the files that are gone."""
        with contextlib.suppress(OSError):
            known = {key: entry for key, entry in self._load().items() if (self._folder / key).is_file()}
            known |= {self._key(path): [*_seen(path), digest] for path, digest in digests.items()}
            self._save(known)

    def _key(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _load(self) -> dict[str, list]:
        with contextlib.suppress(OSError, ValueError):
            content = json.loads((self._folder / CACHE).read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
        return {}

    def _save(self, known: dict[str, list]) -> None:
        """Whole or not at all; of two that write at once the last one stays, and the other's files are read again."""
        descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=self._folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(known, stream, indent=1)
            Path(name).replace(self._folder / CACHE)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _seen(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
