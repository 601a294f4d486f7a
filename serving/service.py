"""The service: what a program that draws for many holds, one for each device."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

from hybridstitch.runtime.memory import Memory, predict
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.request import Request
from hybridstitch.runtime.result import Picture

from .batch_limits import BatchLimits
from .observer import Observer
from .options import ServiceOptions
from .process_exit import OnLost
from .queue import Entry, Queue
from .ticket import OnUpdate, Ticket
from .worker import Worker


class Service:
    """Draws for any number of threads on one device. Make one per device, once; all of it is safe from any thread.

    memory: bytes that the pair's default pictures take, in the largest batch.
    """

    def __init__(
        self,
        pipe: HybridStitch,
        options: ServiceOptions | None = None,
        *,
        observer: Observer | None = None,
        on_lost: OnLost | None = None,
    ) -> None:
        """Serve a pipeline, which belongs to the service from here on.

        Args:
            options: of which those that load a pipeline are not looked at.
            observer, on_lost: see `load`.
        """
        self._requests = pipe.requests
        options = options or ServiceOptions()
        self._timeout = options.timeout
        queue = Queue(options.max_queue, options.max_delay)
        on_cpu = pipe.device.type == "cpu"
        self._batch_limits = BatchLimits(1 if on_cpu and options.max_batch is None else options.max_batch)
        for size in pipe.recipe.profiles.sizes if options.warm_up else ():
            self._batch_limits.warm_up(pipe, size)
        self.memory = self._predict(pipe)
        self._worker = Worker(pipe, queue, observer, on_lost)

    @classmethod
    def load(
        cls,
        pair: str | Path = "demo",
        *,
        observer: Observer | None = None,
        on_lost: OnLost | None = None,
        **options: Any,
    ) -> Self:
        """Load a pair's engines, check them, draw a little of each of the recipe's sizes, and take requests.

        Args:
            pair: a recipe's name or its .toml file.
            options: see `ServiceOptions`.
            observer: hooks for metrics.
            on_lost: called once by the thread that draws, with why in one line, when nothing can be drawn any more: the
                device is lost, or that thread failed. Every ticket has its answer by then. By default the log and
                `problem` alone tell it; `end_process` ends the process, so that another one is started.

        Raises:
            HybridStitchError: as `HybridStitch.load`, an option out of range, or engines that gave no picture.
        """
        return cls.open(ServiceOptions(pair=str(pair), **options), observer=observer, on_lost=on_lost)

    @classmethod
    def open(cls, options: ServiceOptions, *, observer: Observer | None = None, on_lost: OnLost | None = None) -> Self:
        """`load` with options that are already checked.

        Raises:
            HybridStitchError: as `load`.
        """
        pipe = HybridStitch.load(
            options.pair,
            engines=options.engines,
            backend=options.backend,
            device=options.device,
            threads=options.threads,
            schedule=options.schedule,
            low_memory=options.low_memory,
        )
        try:
            return cls(pipe, options, observer=observer, on_lost=on_lost)
        except BaseException:
            pipe.close()
            raise

    def resolve(self, prompt: str, **requested: Any) -> Request:
        """A request, refused where that can be told before anything runs; see `Requests.resolve`.

        Raises:
            HybridStitchError: see there.
        """
        return self._requests.resolve(prompt, **requested)

    def submit(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        on_update: OnUpdate | None = None,
        previews: int = 0,
    ) -> Ticket:
        """Put a request into the queue.

        Args:
            timeout: seconds from now, after which it is given up between two steps; None: the service's own.
            on_update: called once it has begun and after each step, by the thread that draws: it must be quick. What
                it raises fails this request.
            previews: 0 to 3; so many of the updates, evenly spread, have a preview, each for the time of a decode.

        Raises:
            QueueFull, Closed: at once. HybridStitchError: a number out of range.
        """
        timeout = self._timeout if timeout is None else timeout
        ticket = Ticket(
            request, timeout=timeout, on_update=on_update, previews=previews, withdraw=self._worker.withdraw
        )
        entry = Entry(ticket, request.batch_key, self._batch_limits.sizes(request))
        self._worker.submit(entry)
        return ticket

    def generate(self, request: Request, **options: Any) -> Picture:
        """Submit (see there) and wait for the picture.

        Raises:
            QueueFull, Closed, TimedOut, NotDrawn: as they say.
        """
        ticket = self.submit(request, **options)
        try:
            return ticket.result()
        finally:
            ticket.cancel()  # where the wait was broken off

    async def generate_async(self, request: Request, **options: Any) -> Picture:
        """`generate` without blocking the event loop; cancelling the task cancels the request.

        Raises:
            QueueFull, Closed, TimedOut, NotDrawn: as they say.
        """
        ticket = self.submit(request, **options)
        try:
            return await asyncio.wrap_future(ticket.future)
        finally:
            ticket.cancel()

    def close(self, drain: bool = True) -> None:
        """Take no more requests, finish what runs, and give back the engines' memory. Again: nothing more happens.

        Args:
            drain: whether those that wait are drawn as well, or refused.
        """
        self._worker.close(drain=drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def problem(self) -> str | None:
        """Why it is not ready, in one line."""
        return self._worker.problem

    @property
    def lost(self) -> str | None:
        """Why it can never draw again, in one line: the device is lost, or the thread that draws failed."""
        return self._worker.lost

    @property
    def ready(self) -> bool:
        """Whether requests may be sent: real inferences lately succeeded, and it is not closed."""
        return self.problem is None

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._worker.waiting

    @property
    def running(self) -> int:
        """Requests that are being drawn."""
        return self._worker.running

    @property
    def observer(self) -> Observer | None:
        """Hooks for metrics; may be set at any time."""
        return self._worker.observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._worker.observer = observer

    def _predict(self, pipe: HybridStitch) -> Memory:
        usual = pipe.requests.resolve("a picture")
        manifests = {name: engine.manifest for name, engine in pipe.engines.items()}
        return predict(
            manifests,
            pipe.recipe,
            usual.parameters,
            usual.size,
            self._batch_limits.sizes(usual)[-1],
            low_memory=pipe.low_memory,
        )
