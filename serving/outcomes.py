"""A ticket's one answer, and what an observer is told: the same for a worker in this process and for replicas."""

from __future__ import annotations

import logging
import time
from typing import Any

from hybridstitch.runtime.result import Picture

from .errors import ServingError
from .observer import Observer
from .ticket import Ticket

logger = logging.getLogger(__name__)


def answer(ticket: Ticket, outcome: Picture | ServingError, observer: Observer | None) -> None:
    """Give a ticket its answer; the observer hears of it first. Nothing is raised."""
    if isinstance(outcome, ServingError):
        tell(observer, "failed", ticket.request, outcome.kind)
    else:
        tell(observer, "finished", ticket.request, time.monotonic() - ticket.arrived)
    try:
        ticket.settle(outcome)
    except BaseException:  # of somebody's callback, also an exit: the ticket has its answer
        logger.exception("a callback of a ticket failed")


def tell(observer: Observer | None, hook: str, *told: Any) -> None:
    """Call one of an observer's hooks; what it raises is logged, and nobody goes without an answer for it."""
    try:
        getattr(observer, hook, lambda *_told: None)(*told)
    except BaseException:  # also an exit: it must not end the thread that draws
        logger.exception("the observer's %s failed", hook)
