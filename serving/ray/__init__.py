"""Serve on Ray: one replica for each GPU (or share of a CPU) behind the HTTP front.

serve run --name hybridstitch hybridstitch.serving.ray:app pair=demo max_replicas=2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridstitch.serving.ray.application import app, connect
    from hybridstitch.serving.ray.handle import RayService
    from hybridstitch.serving.ray.options import ApplicationOptions

__all__ = ["ApplicationOptions", "RayService", "app", "connect"]

_HOMES = {"ApplicationOptions": "options", "RayService": "handle", "app": "application", "connect": "application"}


def __getattr__(name: str) -> Any:
    """Import what needs Ray when it is first asked for: Ray reads its settings once, when it is imported."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
