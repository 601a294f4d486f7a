"""The one thread that draws, and what others tell it: submit, withdraw, close."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from typing import Any

from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Picture
from hybridstitch.runtime.timing import Stopwatch

from .answering import answer, tell
from .batch import RunningBatch
from .errors import Closed, ServingError
from .observer import Observer
from .queue import Batch, Entry, Queue
from .readiness import Readiness, draw_a_little
from .ticket import Ticket

RECHECK = 5.0
"""Seconds between two self-checks of a service that is not ready and has nothing to draw."""


class Worker:
    """Owns a pipeline: its thread alone draws with it, and closes it at the end.

    A ticket has one answer: who takes it out of the queue gives it. No answer is given under the lock, so that whoever
    waits for it may ask for anything.
    """

    def __init__(self, pipe: HybridStitch, queue: Queue, observer: Observer | None) -> None:
        self.observer = observer
        self._pipe, self._queue = pipe, queue
        self._changed = threading.Condition()  # guards the queue and `_closing`
        self._closing = False
        self._batch: RunningBatch | None = None
        self._readiness = Readiness()
        self._thread = threading.Thread(target=self._work, name="hybridstitch", daemon=True)
        self._thread.start()

    def submit(self, entry: Entry) -> None:
        """Raises QueueFull, Closed."""
        try:
            with self._changed:
                if self._closing:
                    raise Closed("the service is closed: it takes no more requests")
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
        if waited:
            self._give_up([ticket])

    def close(self, *, drain: bool) -> None:
        """Finish what runs, and with `drain` what waits; then the thread ends."""
        with self._changed:
            self._closing = True
            left = [] if drain else self._queue.clear()
            self._changed.notify()
        self._refuse(left)
        if threading.current_thread() is not self._thread:  # as in a callback
            self._thread.join()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        batch = self._batch
        return 0 if batch is None else len(batch.running)

    @property
    def problem(self) -> str | None:
        return "the service is closed" if self._closing else self._readiness.problem

    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None or not self._closing:
                if batch is None:
                    self._check_again()
                else:
                    self._draw(batch)
        finally:
            with self._changed:
                self._closing = True
                left = self._queue.clear()
            self._refuse(left)
            self._pipe.close()

    def _next(self) -> Batch | None:
        """The next batch; None: it is closed, or has nothing to do while it is not ready."""
        patience = time.monotonic() + (math.inf if self._readiness.problem is None else RECHECK)
        while True:
            self._sweep()
            with self._changed:
                now = time.monotonic()
                found = self._queue.take(now, hurry=self._closing)
                if isinstance(found, Batch):
                    self._batch = RunningBatch(self._pipe, found, self._answer, self._sweep)
                    return found
                if self._closing or now >= patience:
                    return None
                deadlines = (ticket.deadline - now for ticket in self._queue.tickets())
                wait = min(math.inf if found is None else found, patience - now, *deadlines)
                self._changed.wait(None if wait == math.inf else wait)

    def _draw(self, batch: Batch) -> None:
        running, watch = self._batch, Stopwatch(self._pipe.device)
        assert running is not None
        self._observe("began", len(batch.tickets))
        running.draw(watch)
        self._batch = None
        if running.problem is not None:
            self._readiness.failed(running.problem)
        elif running.drawn:
            self._readiness.succeeded()
        for stage, spent in watch.finish().stages.items():
            self._observe("stage", stage, spent.seconds)

    def _check_again(self) -> None:
        try:
            draw_a_little(self._pipe, self._pipe.recipe.defaults.size)
        except Exception as error:  # whatever an engine raises
            self._readiness.failed(str(error) or type(error).__name__)
        else:
            self._readiness.succeeded()

    def _sweep(self) -> None:
        """Answer those that waited until their time was up."""
        with self._changed:
            over = [ticket for ticket in self._queue.tickets() if ticket.verdict() is not None]
            for ticket in over:
                self._queue.discard(ticket)
        self._give_up(over)

    def _give_up(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            if (why := ticket.verdict()) is not None:
                self._answer(ticket, why)

    def _refuse(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            self._answer(ticket, Closed("the service closed before the request's turn came"))

    def _answer(self, ticket: Ticket, outcome: Picture | ServingError) -> None:
        answer(ticket, outcome, self.observer)

    def _observe(self, hook: str, *told: Any) -> None:
        tell(self.observer, hook, *told)
