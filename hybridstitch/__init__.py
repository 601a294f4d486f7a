"""HybridStitch for Stable Diffusion 3: two models draw one picture, as engines on one device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .method.errors import HybridStitchError

# ONNX Runtime reports to its makers and keeps a database under the home folder. It reads this once, when it is
# imported, so it is set before any module of ours can import it. Whoever sets it to 0 has decided otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from hybridstitch.runtime.pipeline import HybridStitch
    from hybridstitch.runtime.request import Request
    from hybridstitch.runtime.result import Failure, Picture, Result, StepProgress

__all__ = ["Failure", "HybridStitch", "HybridStitchError", "Picture", "Request", "Result", "StepProgress"]

_HOMES = {
    "Failure": "result",
    "HybridStitch": "pipeline",
    "Picture": "result",
    "Request": "request",
    "Result": "result",
    "StepProgress": "result",
}


def __getattr__(name: str) -> Any:
    """Import the runtime when it is first asked for: `hybridstitch.method` alone needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.runtime.{_HOMES[name]}"), name)
