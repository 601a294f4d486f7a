"""How a request can end without a picture: each with one clear line, and a word for counters and status codes."""

from __future__ import annotations

from typing import ClassVar

from hybridstitch.method.errors import HybridStitchError


class ServingError(HybridStitchError):
    """A request that a service did not answer with a picture. kind: one word for which of the reasons it was."""

    kind: ClassVar[str]


class QueueFull(ServingError):
    """As many requests wait as may: refused at once."""

    kind = "queue_full"


class Closed(ServingError):
    """The service takes no more requests, or ended before this one's turn."""

    kind = "closed"


class TimedOut(ServingError):
    """The request's time was up."""

    kind = "timed_out"


class Cancelled(ServingError):
    """The request was cancelled."""

    kind = "cancelled"


class NotDrawn(ServingError):
    """The request was taken and went wrong: its image, its callback, or the engines."""

    kind = "not_drawn"
