"""What a search drew, one JSON line each, so that a search that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError


@dataclass
class Journal:
    """Lines of a file. What is added is on the disk before the next thing is drawn."""

    path: Path
    lines: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, facts: Mapping[str, Any], *, resume: bool) -> Journal:
        """Begin a file, or go on with one.

        Args:
            facts: on which everything in it depends; the file's first line.

        Raises:
            HybridStitchError: it cannot be read or written, is none of ours, holds what was drawn under other facts; or
                there is one already, and it is not to be gone on with.
        """
        head = json.loads(json.dumps({"search": dict(facts)}))
        if path.exists() and not resume:
            raise HybridStitchError(
                f"{path} holds what an earlier search drew: go on from it with --resume {path}, or remove it"
            )
        try:
            if not path.exists():
                path.write_text(json.dumps(head) + "\n", encoding="utf-8")
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise HybridStitchError(f"{path} cannot be used: {error.strerror}") from None
        except UnicodeDecodeError:
            raise HybridStitchError(f"{path} is no file that tune wrote") from None
        whole = text[: text.rfind("\n") + 1]  # without a line that a crash cut short
        try:
            first, *rest = map(json.loads, whole.splitlines())
            before = first["search"]
            lines = {(line["what"], line["name"], line["case"]): line for line in rest}
        except (ValueError, KeyError, TypeError):
            raise HybridStitchError(f"{path} is no file that tune wrote") from None
        for name, now in head["search"].items():
            if before.get(name) != now:
                told = f"{before.get(name)!s:.80}, now {now!s:.80}"
                raise HybridStitchError(f"{path} was drawn with another {name}: {told}; leave out --resume")
        if whole != text:
            os.truncate(path, len(whole.encode()))
        return cls(path, lines)

    def find(self, what: str, name: str, case: int) -> dict[str, Any] | None:
        """A line, if it was drawn before."""
        return self.lines.get((what, name, case))

    def add(self, what: str, name: str, case: int, **values: float) -> dict[str, Any]:
        """Write a line.

        Raises:
            HybridStitchError: it cannot be written.
        """
        line = {"what": what, "name": name, "case": case, **values}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise HybridStitchError(f"{self.path} cannot be written: {error.strerror}") from None
        self.lines[what, name, case] = line
        return line
