"""Hashes that decide whether an export is made anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from hybridstitch.method.progress import OnProgress, silent
from hybridstitch.models.digests import Digests


def fingerprint(files: Iterable[Path], digests: Digests, report: OnProgress = silent) -> str:
    """SHA-256 over the content of all files, in the order given; what is known of them is not read again."""
    return hashlib.sha256("".join(digests.sha256(file, report) for file in files).encode()).hexdigest()


def digest_text(*parts: str | bytes) -> str:
    """SHA-256 of a few small things."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little") + content)
    return total.hexdigest()
