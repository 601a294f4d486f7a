"""Embed HybridStitch in a program that draws for many at once: one `Service` per device.

>>> with Service.load("demo") as service:
...     request = service.resolve("a large striped red star on a navy background", seed=7)
...     service.generate(request, timeout=60).image.save("star.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridstitch.serving.errors import Cancelled, Closed, NotDrawn, QueueFull, ServingError, TimedOut
    from hybridstitch.serving.observer import Observer
    from hybridstitch.serving.options import ServiceOptions
    from hybridstitch.serving.process_exit import end_process
    from hybridstitch.serving.service import Service
    from hybridstitch.serving.ticket import Ticket, Update

__all__ = [
    "Cancelled",
    "Closed",
    "NotDrawn",
    "Observer",
    "QueueFull",
    "Service",
    "ServiceOptions",
    "ServingError",
    "Ticket",
    "TimedOut",
    "Update",
    "end_process",
]

_HOMES = {
    "Observer": "observer",
    "Service": "service",
    "ServiceOptions": "options",
    "Ticket": "ticket",
    "Update": "ticket",
    "end_process": "process_exit",
}


def __getattr__(name: str) -> Any:
    """Import the runtime when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"hybridstitch.serving.{_HOMES.get(name, 'errors')}"), name)
