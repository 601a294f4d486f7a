"""HybridStitch for Stable Diffusion 3: two models draw one picture, as engines on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .method.errors import HybridStitchError

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
