"""What a search drew, one JSON line each, so that a search that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridstitch.evaluation.json_lines import Line, add_line, drop_cut_line, read_lines
from hybridstitch.method.errors import HybridStitchError


@dataclass
class Journal:
    """Lines of a file. What is added is on the disk before the next thing is drawn."""

    path: Path
    lines: dict[tuple[str, str, int], Line] = field(default_factory=dict)

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
            first, *rest = read_lines(path)
            before = first["search"]
            lines = {(line["what"], line["name"], line["case"]): line for line in rest}
        except OSError as error:
            raise HybridStitchError(f"{path} cannot be used: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise HybridStitchError(f"{path} is no file that tune wrote") from None
        for name, now in head["search"].items():
            if before.get(name) != now:
                told = f"{before.get(name)!s:.80}, now {now!s:.80}"
                raise HybridStitchError(f"{path} was drawn with another {name}: {told}; leave out --resume")
        drop_cut_line(path)
        return cls(path, lines)

    def find(self, what: str, name: str, case: int) -> Line | None:
        """A line, if it was drawn before."""
        return self.lines.get((what, name, case))

    def add(self, what: str, name: str, case: int, **values: float) -> Line:
        """Write a line.

        Raises:
            HybridStitchError: it cannot be written.
        """
        line = {"what": what, "name": name, "case": case, **values}
        add_line(self.path, line)
        self.lines[what, name, case] = line
        return line
