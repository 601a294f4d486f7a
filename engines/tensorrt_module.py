"""TensorRT and TensorRT for RTX behind one import: the same Python API, from two packages.

Imported on first use: each brings hundreds of megabytes of libraries. A process that runs engines may import both; each
plan is built in a process of its own (builders/tensorrt_child.py), since Polygraphy chooses one for the whole process.
"""

from __future__ import annotations

import importlib
import re
from collections import deque
from typing import Any

from hybridstitch.method.errors import HybridStitchError

from .backends import Backend, find_backend

OLDEST_TENSORRT = (10, 8)
ERRORS_KEPT = 100  # an engine may live for months


def tensorrt_module(backend: str) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`.

    Raises:
        HybridStitchError: not installed, too old, or its libraries do not load.
    """
    tensorrt = require_tensorrt(backend)
    try:
        return importlib.import_module(tensorrt.module)
    except (ImportError, OSError) as error:
        raise HybridStitchError(
            f"backend {backend}: {tensorrt.title} {tensorrt.version} does not load: {error}"
        ) from None


def require_tensorrt(backend: str) -> Backend:
    """The backend of that name, without importing it.

    Raises:
        HybridStitchError: not installed, or too old.
    """
    tensorrt = find_backend(backend)
    if _numbers(tensorrt.version) < OLDEST_TENSORRT and backend == "tensorrt":
        raise HybridStitchError(f"backend tensorrt needs TensorRT 10.8 or later; here is {tensorrt.version}")
    return tensorrt


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def make_log(trt: Any) -> Any:
    """An ILogger that keeps the latest errors instead of printing them; `errors()` lists them, oldest first.

    `first_error(since)` and `last_error(since)` say in a line one of those that were logged since `count` was `since`:
    the first is the cause of a plan that is not read, the last of a run that failed. A caller takes `count` before it
    calls TensorRT, so that no failure is explained with the reason of an earlier one.
    """

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=ERRORS_KEPT)
            self.count = 0  # of all errors so far, also those that are not kept any more

        def log(self, severity: Any, msg: str) -> None:
            levels = trt.ILogger.Severity
            if severity in (levels.INTERNAL_ERROR, levels.ERROR):
                self._errors.append(msg)
                self.count += 1

        def errors(self) -> list[str]:
            return list(self._errors)

        def first_error(self, since: int = 0) -> str:
            return self._line(0, since)

        def last_error(self, since: int = 0) -> str:
            return self._line(-1, since)

        def _line(self, index: int, since: int) -> str:
            fresh = self.count - since
            errors = self.errors()[-fresh:] if fresh else []
            return " ".join(errors[index].split()) if errors else "TensorRT gave no reason"

    return Log()
