"""A file of JSON lines that grows while something is measured, so that what was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError

Line = Mapping[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Every whole line of a file. A last line that a crash cut short is left out; the file stays as it is.

    Raises:
        OSError: it cannot be read. ValueError: a line is no JSON object.
    """
    lines = [json.loads(line) for line in _whole(path.read_bytes()).decode().splitlines()]
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{path} holds a line that is no JSON object")
    return lines


def drop_cut_line(path: Path) -> None:
    """Remove a last line that a crash cut short, so that the next one begins a line of its own."""
    content = path.read_bytes()
    if (whole := _whole(content)) != content:
        os.truncate(path, len(whole))


def add_line(path: Path, line: Line) -> None:
    """Append a line; it is in the file when this returns.

    Raises:
        HybridStitchError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise HybridStitchError(f"{path} cannot be written: {error.strerror}") from None


def _whole(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]
