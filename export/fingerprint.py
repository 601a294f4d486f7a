"""A hash of a checkpoint's files that changes when any weight does; each file is read once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from .files import Progress, Steps

_CHUNK = 8 * 1024**2


def fingerprint(files: list[Path], cache: Path, progress: Progress) -> str:
    """SHA-256 over the content of all files, in the order given.

    Digests are kept in `cache` by path, size and modification time, so that an unchanged file is not read again.
    """
    known = _load(cache)
    total = hashlib.sha256()
    for file in files:
        status = file.stat()
        key, seen = str(file.resolve()), [status.st_size, status.st_mtime_ns]
        entry = known.get(key)
        if not (isinstance(entry, list) and entry[:2] == seen and len(entry) == 3):
            entry = [*seen, _digest(file, status.st_size, progress)]
            known[key] = entry
            _save(cache, known)
        total.update(entry[2].encode())
    return total.hexdigest()


def digest_text(*parts: str | bytes) -> str:
    """SHA-256 of a few small things."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little") + content)
    return total.hexdigest()


def _digest(file: Path, size: int, progress: Progress) -> str:
    report = Steps(f"reading {file.name}", size, progress)
    total = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            total.update(chunk)
            report.add(len(chunk))
    return total.hexdigest()


def _load(cache: Path) -> dict[str, list]:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(cache.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _save(cache: Path, known: dict[str, list]) -> None:
    partial = cache.with_suffix(".partial")
    partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
    os.replace(partial, cache)
