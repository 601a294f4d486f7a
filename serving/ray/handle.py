"""A service whose pictures are drawn by replicas on Ray, and that survives the death of any of them.

It has what `Service` has, so that the HTTP front does not know the difference. A request holds its seed and its whole
plan before it is first sent: begun again on another replica, it is the same picture. Only what Ray says of a replica
(it died, it cannot be reached, it is closing) is tried again; an error of the picture itself is its answer.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, WorkerCrashedError

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.request import Request, Requests
from hybridstitch.runtime.result import Picture
from hybridstitch.serving.errors import Cancelled, Closed, NotDrawn, QueueFull, ServingError, TimedOut
from hybridstitch.serving.observer import Observer
from hybridstitch.serving.outcomes import answer, tell
from hybridstitch.serving.ticket import OnUpdate, Ticket, Update

from .options import ApplicationOptions

PAUSE = 0.2
"""Seconds before a picture is begun again, in which the router learns of the death."""

DEATHS = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError)
"""What Ray raises of a replica that is gone, and of what it had sent."""


@dataclass(eq=False)
class _Errand:
    """A ticket on its way. reached: the step that its caller was told last. task: what brings it to its answer."""

    ticket: Ticket
    reached: int = -1
    task: asyncio.Task[None] | None = None


class RayService:
    """Sends requests to a deployment of `Replica`. All of it is safe from any thread.

    requests: makes them; may be replaced at any time, as when the schedule changes. observer: hooks for metrics; what a
    replica alone knows (batches and their stages) is not told.
    """

    def __init__(self, handle: Any, requests: Requests, options: ApplicationOptions | None = None) -> None:
        """options: of which max_queue, retries and timeout count here."""
        options = options or ApplicationOptions()
        self.requests = requests
        self.observer: Observer | None = None
        self._draw = handle.options(stream=True).draw
        self._max_queue, self._retries, self._timeout = options.max_queue, options.retries, options.timeout
        self._lock = threading.Lock()
        self._errands: dict[Ticket, _Errand] = {}
        self._closing = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="hybridstitch-ray", daemon=True).start()

    @classmethod
    def of(cls, handle: Any, options: ApplicationOptions) -> Self:
        """A handle of the replicas that were made with these options.

        Raises:
            HybridStitchError: engines that are not built.
        """
        requests = options.requests(Recipe.load(options.pair, options.schedule))
        return cls(handle, requests, options)

    def resolve(self, prompt: str, **requested: Any) -> Request:
        """A request, refused where that can be told before anything runs; see `Requests.resolve`."""
        return self.requests.resolve(prompt, **requested)

    def submit(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        on_update: OnUpdate | None = None,
        previews: int = 0,
    ) -> Ticket:
        """As `Service.submit`. After a replica's death the updates go on where they had been.

        Raises:
            QueueFull, Closed: at once. HybridStitchError: a number out of range.
        """
        timeout = self._timeout if timeout is None else timeout
        ticket = Ticket(request, timeout=timeout, on_update=on_update, previews=previews, withdraw=self._withdraw)
        try:
            with self._lock:
                if self._closing:
                    raise Closed("the service is closed: it takes no more requests")
                if (waiting := self.waiting) >= self._max_queue:
                    raise QueueFull(f"the queue is full: {waiting} requests wait; try again later")
                self._errands[ticket] = _Errand(ticket)
                asyncio.run_coroutine_threadsafe(self._serve(self._errands[ticket]), self._loop)
        except ServingError as error:
            tell(self.observer, "refused", error.kind)
            raise
        tell(self.observer, "queued", request)
        return ticket

    def generate(self, request: Request, **options: Any) -> Picture:
        """Submit (see there) and wait for the picture."""
        ticket = self.submit(request, **options)
        try:
            return ticket.result()
        finally:
            ticket.cancel()

    def close(self, drain: bool = True) -> None:
        """Take no more requests, and wait for those that were taken, or with `drain=False` cancel them."""
        with self._lock:
            self._closing = True
            tickets = list(self._errands)
        for ticket in tickets:
            if not drain:
                ticket.cancel()
            ticket.future.exception()
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def problem(self) -> str | None:
        """Why it takes no requests, in one line. Replicas that are being replaced are waited for."""
        return "the service is closed" if self._closing else None

    @property
    def lost(self) -> str | None:
        """Never: a replica that is lost is replaced."""
        return None

    @property
    def ready(self) -> bool:
        return self.problem is None

    @property
    def waiting(self) -> int:
        """Requests that no replica has begun."""
        return sum(errand.reached < 0 for errand in list(self._errands.values()))

    @property
    def running(self) -> int:
        """Requests that are being drawn."""
        return sum(errand.reached >= 0 for errand in list(self._errands.values()))

    def _withdraw(self, ticket: Ticket) -> None:
        if (errand := self._errands.get(ticket)) is not None:
            asyncio.run_coroutine_threadsafe(self._stop(errand), self._loop)

    async def _stop(self, errand: _Errand) -> None:
        """A task of its own, and so after the errand's first step: one that never began would never answer."""
        if errand.task is not None:
            errand.task.cancel()

    async def _serve(self, errand: _Errand) -> None:
        """Bring a ticket to its one answer."""
        errand.task = asyncio.current_task()
        outcome: Picture | ServingError = Cancelled("the request was cancelled")
        try:
            outcome = await self._outcome(errand)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # whatever Ray raises: the caller waits for an answer
            outcome = NotDrawn(f"no replica could be asked: {type(error).__name__}: {' '.join(str(error).split())}")
        finally:
            with self._lock:
                del self._errands[errand.ticket]
            answer(errand.ticket, outcome, self.observer)

    async def _outcome(self, errand: _Errand) -> Picture | ServingError:
        try:
            async with asyncio.timeout(_left(errand.ticket)):
                for _ in range(self._retries + 1):
                    outcome = await self._attempt(errand)
                    if outcome is not None:
                        return outcome
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            return errand.ticket.verdict() or TimedOut("no picture in time")
        return NotDrawn(f"{self._retries + 1} replicas in a row died while they drew it")

    async def _attempt(self, errand: _Errand) -> Picture | ServingError | None:
        """The answer of one replica; None: it has none to give, and another one is to be asked."""
        stream: Any = self._draw.remote(errand.ticket.request, _left(errand.ticket), errand.ticket.previews)
        done = False
        try:
            async for news in stream:
                if isinstance(news, Update):
                    if (failure := _advance(errand, news)) is not None:
                        return failure
                else:
                    done = True
                    return None if isinstance(news, Closed) else news
        except DEATHS:
            return None
        finally:
            if not done:
                stream.cancel()
        return None


def _left(ticket: Ticket) -> float | None:
    """Seconds until it is given up; None: any."""
    return None if math.isinf(ticket.deadline) else max(0.0, ticket.deadline - time.monotonic())


def _advance(errand: _Errand, news: Update) -> NotDrawn | None:
    """Tell an update that is further than what was told before."""
    if news.step <= errand.reached:
        return None
    errand.reached = news.step
    return errand.ticket.update(news.step, news.stage, news.preview)
