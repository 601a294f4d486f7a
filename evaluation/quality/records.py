"""What was found out about each picture, one JSON line each, so that an evaluation that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.json_lines import Line, add_line, drop_cut_line, read_lines
from hybridstitch.evaluation.variants import Variant
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.pipeline import HybridStitch

Record = Line


class Records:
    """The lines of a file, by what decides a picture and its time: engines, method, settings, prompt, seed and size.
    Lines of other pictures stay and are not looked at; a line that a crash cut short is dropped.

    Raises:
        HybridStitchError: the file cannot be read or written, or is none of ours.
    """

    def __init__(self, path: Path, pipe: HybridStitch) -> None:
        engines = {name: engine.manifest.key for name, engine in pipe.engines.items()}
        self.path, self._pipe, self._common = path, pipe, {"backend": pipe.backend, "engines": engines}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            self._lines = {line["key"]: line for line in read_lines(path)}
            drop_cut_line(path)
        except OSError as error:
            raise HybridStitchError(f"cannot write {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise HybridStitchError(f"{path} is no file that eval wrote; name another folder with --out") from None

    def find(self, variant: Variant, case: PromptCase) -> Record | None:
        return self._lines.get(self._key(variant, case))

    def add(self, variant: Variant, case: PromptCase, values: Mapping[str, Any]) -> None:
        """Write a line; it is in the file before the next picture is drawn."""
        self._append({"key": self._key(variant, case), "variant": variant.name, "prompt": case.prompt, **values})

    def fact(self, name: str, find: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Something that does not depend on pictures, found out once and kept."""
        if name not in self._lines:
            self._append({"key": name, "fact": find()})
        return self._lines[name]["fact"]

    def _append(self, record: Record) -> None:
        add_line(self.path, record)
        self._lines[record["key"]] = record

    def _key(self, variant: Variant, case: PromptCase) -> str:
        (request,) = self._pipe.resolve([case.prompt], seed=case.seed, **variant.settings)
        identity = {**self._common, "request": repr(request), "aid": variant.aid}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
