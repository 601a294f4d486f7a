"""The interface that front ends require of a service, in this process or in replicas elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

from hybridstitch.runtime.request import Request

from .observer import Observer
from .ticket import OnUpdate, Ticket


class PictureService(Protocol):
    """See `Service`, which has all of it and more."""

    @property
    def observer(self) -> Observer | None: ...

    @observer.setter
    def observer(self, observer: Observer | None) -> None: ...

    def resolve(self, prompt: str, **requested: Any) -> Request: ...

    def submit(
        self, request: Request, *, timeout: float | None = None, on_update: OnUpdate | None = None, previews: int = 0
    ) -> Ticket: ...

    def close(self, drain: bool = True) -> None: ...

    @property
    def problem(self) -> str | None: ...

    @property
    def lost(self) -> str | None: ...

    @property
    def ready(self) -> bool: ...

    @property
    def waiting(self) -> int: ...

    @property
    def running(self) -> int: ...
