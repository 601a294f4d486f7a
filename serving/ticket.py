"""One request in a service's hands: what its caller holds, and what the worker asks of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass

from PIL import Image

from hybridstitch.method.numbers import finite, whole
from hybridstitch.runtime.request import Request
from hybridstitch.runtime.result import Picture

from .errors import Cancelled, NotDrawn, ServingError, TimedOut

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """How far a request is.

    step: the steps that are done; 0: it has begun, and its text is encoded. steps: of them all.
    stage: large, hybrid or small, of the step; of step 0 that of the first.
    preview: the picture as it would be by now, in the updates that were asked to have one; none of an image gone wrong.
    """

    step: int
    steps: int
    stage: str
    preview: Image.Image | None = None


OnUpdate = Callable[[Update], None]


class Ticket:
    """A request that a service has taken. All of it may be used from any thread.

    request: what was asked for. previews: how many updates are to have one. arrived, deadline: by time.monotonic().
    future: its answer, for code that waits for many.
    """

    def __init__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        on_update: OnUpdate | None = None,
        previews: int = 0,
        withdraw: Callable[[Ticket], None] = lambda _ticket: None,
    ) -> None:
        """
        Args:
            timeout: seconds until it is given up. previews: how many updates have a preview, evenly spread; 0 to 3.
            withdraw: called when it is cancelled, to take it out of the queue.

        Raises:
            HybridStitchError: a number out of range.
        """
        self.previews = whole("previews", previews, range(4))
        timeout = None if timeout is None else finite("timeout", timeout)
        self.request, self.arrived = request, time.monotonic()
        self.future: Future[Picture] = Future()
        self.future.set_running_or_notify_cancel()  # it is cancelled here alone, not through the future
        self._timeout, self._on_update, self._withdraw = timeout, on_update, withdraw
        self.deadline = math.inf if timeout is None else self.arrived + timeout
        self._cancelled = False
        self._step, self._steps = 0, request.parameters.schedule.steps
        self._shown = {math.ceil(self._steps * (k + 1) / (self.previews + 1)) for k in range(self.previews)}

    def result(self, timeout: float | None = None) -> Picture:
        """Wait for the picture.

        Args:
            timeout: seconds to wait, at most; the request goes on after them.

        Raises:
            TimedOut: its own time was up, or this wait's. Cancelled, Closed, NotDrawn: as they say.
        """
        try:
            return self.future.result(timeout)
        except StillWaiting:
            raise TimedOut(f"no picture yet after {timeout:g} s of waiting; the request goes on") from None

    def cancel(self) -> None:
        """Give the request up: at once while it waits, else before its next step. Nothing happens when it is over."""
        self._cancelled = True
        self._withdraw(self)

    @property
    def done(self) -> bool:
        return self.future.done()

    def add_done_callback(self, call: Callable[[Ticket], object]) -> None:
        """Call with this ticket once it is over: at once if it is, else from a thread of the service. What it raises is
        logged."""
        once = [(call, self)]  # a future keeps its callbacks: one that has been called is to hold nothing

        def tell(_future: Future[Picture]) -> None:
            call, ticket = once.pop()
            try:
                call(ticket)
            except BaseException:  # also an exit: it must end neither the thread that draws nor the other callbacks
                logger.exception("a ticket's callback failed")

        self.future.add_done_callback(tell)

    def settle(self, outcome: Picture | ServingError) -> None:
        """Give it its answer: for the service, which does so once. Whoever was told of its steps is let go, so that
        nothing holds the picture in a circle once its caller has it."""
        self._on_update = None
        if isinstance(outcome, ServingError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def verdict(self) -> ServingError | None:
        """Why no more work is to be done for it; None: it is to go on."""
        if self._cancelled:
            return Cancelled("the request was cancelled")
        if time.monotonic() >= self.deadline:
            where = f"stopped after step {self._step} of {self._steps}" if self._step else "its turn did not come"
            return TimedOut(f"no picture within {self._timeout:g} s: {where}")
        return None

    def wants_preview(self, step: int) -> bool:
        return self._on_update is not None and step in self._shown

    def update(self, step: int, stage: str, preview: Image.Image | None = None) -> NotDrawn | None:
        """Tell the caller how far it is; what the callback raises is this request's failure."""
        self._step = step
        on_update = self._on_update
        if on_update is None:
            return None
        try:
            on_update(Update(step, self._steps, stage, preview))
        except BaseException as error:  # also an exit: it must not end the thread that draws for others
            failure = NotDrawn(f"the request's on_update raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure
        return None
