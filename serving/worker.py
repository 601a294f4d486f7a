"""The one thread that draws, and what others tell it: submit, withdraw, close."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Picture
from hybridstitch.runtime.timing import Stopwatch

from .batch import RunningBatch
from .device_loss import device_loss, one_line
from .errors import Closed, NotDrawn, ServingError
from .observer import Observer
from .outcomes import answer, tell
from .process_exit import OnLost
from .queue import Batch, Entry, Queue
from .readiness import Readiness, draw_a_little
from .ticket import Ticket

logger = logging.getLogger(__name__)

RECHECK = 5.0
"""Seconds between two self-checks of a service that is not ready and has nothing to draw."""


class _DeviceLost(Exception):
    """Ends the thread that draws; its words say what was lost."""


class Worker:
    """Owns a pipeline: its thread alone draws with it, and closes it at the end.

    A ticket has one answer: who takes it out of the queue gives it. No answer is given under the lock, so that whoever
    waits for it may ask for anything.

    What is raised while a batch is drawn fails that batch. Where the device is lost, or something is raised elsewhere,
    the thread ends: every ticket is answered before, and `on_lost` is told.

    lost: why nothing can be drawn any more, in one line.
    """

    def __init__(
        self, pipe: HybridStitch, queue: Queue, observer: Observer | None, on_lost: OnLost | None = None
    ) -> None:
        self.observer = observer
        self.lost: str | None = None
        self._on_lost = on_lost
        self._pipe, self._queue = pipe, queue
        self._changed = threading.Condition()  # guards the queue and `_closing`
        self._closing = False
        self._batch: Batch | None = None
        self._readiness = Readiness()
        self._thread = threading.Thread(target=self._work, name="hybridstitch", daemon=True)
        self._thread.start()

    def submit(self, entry: Entry) -> None:
        """Raises QueueFull, Closed."""
        try:
            with self._changed:
                if self._closing:
                    raise Closed(self.lost or "the service is closed: it takes no more requests")
                self._queue.add(entry)
                self._changed.notify()
        except ServingError as error:
            self._observe("refused", error.kind)
            raise
        self._observe("queued", entry.ticket.request)

    def withdraw(self, ticket: Ticket) -> None:
        """Answer a ticket that was cancelled, if it waits."""
        with self._changed:
            waited = self._queue.discard(ticket)
        if waited and (why := ticket.verdict()) is not None:
            self._answer(ticket, why)

    def close(self, *, drain: bool) -> None:
        """Finish what runs, and with `drain` what waits; then the thread ends."""
        with self._changed:
            self._closing = True
            left = [] if drain else self._queue.clear()
            self._changed.notify()
        self._refuse(left, "the service closed before the request's turn came")
        if threading.current_thread() is not self._thread:  # as in a callback
            self._thread.join()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        batch = self._batch
        return 0 if batch is None else sum(not ticket.done for ticket in batch.tickets)

    @property
    def problem(self) -> str | None:
        return self.lost or ("the service is closed" if self._closing else self._readiness.problem)

    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None or not self._closing:
                if batch is None:
                    self._check_again()
                else:
                    self._draw(batch)
        except _DeviceLost as error:
            self._lose(str(error))
        except BaseException as error:  # whatever it is, nobody waits for ever
            logger.exception("the thread that draws failed")
            self._lose(f"the thread that draws failed: {one_line(error)}")
        try:
            self._pipe.close()
        except BaseException:  # a device that is lost gives nothing back
            logger.exception("the engines were not closed")

    def _lose(self, why: str) -> None:
        """Answer everything, and tell who is to replace this process."""
        with self._changed:
            self.lost, self._closing = why, True
            left = self._queue.clear()
        if self._batch is not None:
            left = [ticket for ticket in self._batch.tickets if not ticket.done] + left
        self._refuse(left, f"the request was not drawn: {why}")
        self._batch = None
        logger.critical("no more pictures: %s", why)
        if self._on_lost is None:
            return
        try:
            self._on_lost(why)
        except BaseException:
            logger.exception("the service's on_lost failed")

    def _next(self) -> Batch | None:
        """The next batch; None: it is closed, or has nothing to do while it is not ready."""
        patience = time.monotonic() + (math.inf if self._readiness.problem is None else RECHECK)
        while True:
            self._sweep()
            with self._changed:
                now = time.monotonic()
                taken = self._queue.take(now, hurry=self._closing)
                if isinstance(taken, Batch):
                    self._batch = taken
                    return taken
                if self._closing or now >= patience:
                    return None
                deadlines = (ticket.deadline - now for ticket in self._queue.tickets())
                wait = min(math.inf if taken is None else taken, patience - now, *deadlines)
                self._changed.wait(None if wait == math.inf else wait)

    def _draw(self, batch: Batch) -> None:
        try:
            running = RunningBatch(self._pipe, batch, self._answer, self._sweep)
            watch = Stopwatch(self._pipe.device)
            self._observe("began", len(batch.tickets))
            running.draw(watch)
        except BaseException as error:  # whatever an engine raises is told to those who wait for it
            self._fail(batch, error)
            return
        self._batch = None
        if running.problem is not None:
            self._readiness.failed(running.problem)
        elif running.drawn:
            self._readiness.succeeded()
        self._tell_times(watch)

    def _fail(self, batch: Batch, error: BaseException) -> None:
        """Answer those of a batch that are left.

        Raises:
            _DeviceLost: another batch would fail as well; nobody was answered.
        """
        if not isinstance(error, HybridStitchError):
            logger.error("a batch of %d failed", batch.images, exc_info=error)
        self._check_device(error)
        told = isinstance(error, HybridStitchError)
        problem = str(error) if told else f"the engines failed: {one_line(error)}"
        for ticket in batch.tickets:
            if not ticket.done:
                self._answer(ticket, NotDrawn(problem))
        self._batch = None
        self._readiness.failed(problem)

    def _tell_times(self, watch: Stopwatch) -> None:
        """
        Raises:
            _DeviceLost: the device failed after the last picture.
        """
        try:
            stages = watch.finish().stages
        except BaseException as error:
            logger.exception("a batch's times cannot be read")
            self._check_device(error)
            return
        for stage, spent in stages.items():
            self._observe("stage", stage, spent.seconds)

    def _check_again(self) -> None:
        try:
            draw_a_little(self._pipe, self._pipe.recipe.defaults.size)
        except BaseException as error:  # whatever an engine raises
            self._check_device(error)
            self._readiness.failed(one_line(error))
        else:
            self._readiness.succeeded()

    def _check_device(self, error: BaseException) -> None:
        """
        Raises:
            _DeviceLost: an error says so.
        """
        if (why := device_loss(error, self._pipe.device)) is not None:
            raise _DeviceLost(why) from error

    def _sweep(self) -> None:
        """Answer those that waited until their time was up."""
        with self._changed:
            over = [(ticket, why) for ticket in self._queue.tickets() if (why := ticket.verdict()) is not None]
            for ticket, _why in over:
                self._queue.discard(ticket)
        for ticket, why in over:
            self._answer(ticket, why)

    def _refuse(self, tickets: Iterable[Ticket], why: str) -> None:
        for ticket in tickets:
            self._answer(ticket, Closed(why))

    def _answer(self, ticket: Ticket, outcome: Picture | ServingError) -> None:
        answer(ticket, outcome, self.observer)

    def _observe(self, hook: str, *told: Any) -> None:
        tell(self.observer, hook, *told)
