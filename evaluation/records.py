"""What was found out about each picture, one JSON line each, so that an evaluation that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.pipeline import HybridStitch

from .cases import Case
from .variants import Variant

Record = Mapping[str, Any]


class Records:
    """The lines of a file, by what decides a picture and its time: engines, method, settings, prompt, seed and size.
    Lines of other pictures stay and are not looked at; a line that a crash cut short is dropped.

    Raises:
        HybridStitchError: the file cannot be read or written, or is none of ours.
    """

    def __init__(self, path: Path, pipe: HybridStitch) -> None:
        engines = {name: engine.manifest.key for name, engine in pipe.engines.items()}
        self.path, self._pipe, self._common = path, pipe, {"backend": pipe.backend, "engines": engines}
        self._lines: dict[str, Record] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+", encoding="utf-8") as file:
                file.seek(0)
                text = file.read()
                whole = text[: text.rfind("\n") + 1]
                if whole != text:
                    file.truncate(len(whole.encode()))
            for line in whole.splitlines():
                record = json.loads(line)
                self._lines[record["key"]] = record
        except OSError as error:
            raise HybridStitchError(f"cannot write {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise HybridStitchError(f"{path} is no file that eval wrote; name another folder with --out") from None

    def find(self, variant: Variant, case: Case) -> Record | None:
        return self._lines.get(self._key(variant, case))

    def add(self, variant: Variant, case: Case, values: Mapping[str, Any]) -> None:
        """Write a line; it is in the file before the next picture is drawn."""
        self._append({"key": self._key(variant, case), "variant": variant.name, "prompt": case.prompt, **values})

    def fact(self, name: str, find: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Something that does not depend on pictures, found out once and kept."""
        if name not in self._lines:
            self._append({"key": name, "fact": find()})
        return self._lines[name]["fact"]

    def _append(self, record: Record) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise HybridStitchError(f"cannot write {self.path}: {error.strerror}") from None
        self._lines[record["key"]] = record

    def _key(self, variant: Variant, case: Case) -> str:
        (request,) = self._pipe.resolve([case.prompt], seed=case.seed, **variant.settings)
        known = {**self._common, "request": repr(request), "aid": variant.aid}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:24]
