"""The service: what a program that draws for many holds, one for each device."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Self

import torch

from hybridstitch.method.numbers import finite, whole
from hybridstitch.runtime.memory import Memory, predict
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.request import Request
from hybridstitch.runtime.result import Picture

from .observer import Observer
from .process_exit import OnLost
from .queue import Entry, Queue
from .sharing import Sharing
from .ticket import OnUpdate, Ticket
from .worker import Worker

MOST_BATCH = 64
"""Pictures of a batch that a recipe may name."""


class Service:
    """Draws for any number of threads on one device. Make one per device, once; all of it is safe from any thread.

    memory: bytes that the pair's default pictures take, in the largest batch.
    """

    def __init__(
        self,
        pipe: HybridStitch,
        *,
        max_queue: int = 16,
        max_batch: int | None = None,
        max_delay: float = 0.02,
        warm_up: bool = True,
        observer: Observer | None = None,
        on_lost: OnLost | None = None,
    ) -> None:
        """Serve a pipeline, which belongs to the service from here on; see `load`."""
        self._requests = pipe.requests
        limit = whole("max_queue", max_queue, range(1, sys.maxsize), "of at least 1")
        on_cpu = pipe.device.type == "cpu"
        if max_batch is not None:
            max_batch = whole("max_batch", max_batch, range(1, MOST_BATCH + 1))
        queue = Queue(limit, finite("max_delay", max_delay))
        self._sharing = Sharing(1 if on_cpu and max_batch is None else max_batch)
        for size in pipe.recipe.profiles.sizes if warm_up else ():
            self._sharing.warm_up(pipe, size)
        self.memory = self._predict(pipe)
        self._worker = Worker(pipe, queue, observer, on_lost)

    @classmethod
    def load(
        cls,
        pair: str | Path = "demo",
        *,
        engines: str | Path | None = None,
        backend: str = "onnxruntime",
        device: torch.device | str | None = None,
        threads: int | None = None,
        low_memory: bool | None = None,
        schedule: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Load a pair's engines, check them, draw a little of each of the recipe's sizes, and take requests.

        Args:
            pair, engines, backend, device, threads, low_memory, schedule: as in `HybridStitch.load`.
            max_queue: requests that wait, at most (16); more are refused at once.
            max_batch: pictures drawn together, at most. By default 1 on a CPU, where a batch wins little, and on a
                GPU as many as come out as they do alone, to the last bit: found in the warm-up (see `Sharing.warm_up`).
            max_delay: seconds that a request waits for others to share its batch, at most (0.02).
            warm_up: whether to draw before the first request (True).
            observer: hooks for metrics.
            on_lost: called once by the thread that draws, with why in one line, when nothing can be drawn any more: the
                device is lost, or that thread failed. Every ticket has its answer by then. By default the log and
                `problem` alone tell it; `end_process` ends the process, so that another one is started.

        Raises:
            HybridStitchError: as `HybridStitch.load`, an option out of range, or engines that gave no picture.
        """
        pipe = HybridStitch.load(
            pair,
            engines=engines,
            backend=backend,
            device=device,
            threads=threads,
            schedule=schedule,
            low_memory=low_memory,
        )
        try:
            return cls(pipe, **options)
        except BaseException:
            pipe.close()
            raise

    def resolve(self, prompt: str, **wanted: Any) -> Request:
        """A request, refused where that can be told before anything runs; see `Requests.resolve`.

        Raises:
            HybridStitchError: see there.
        """
        return self._requests.resolve(prompt, **wanted)

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
            timeout: seconds from now, after which it is given up between two steps.
            on_update: called once it has begun and after each step, by the thread that draws: it must be quick. What
                it raises fails this request.
            previews: 0 to 3; so many of the updates, evenly spread, have a preview, each for the time of a decode.

        Raises:
            QueueFull, Closed: at once. HybridStitchError: a number out of range.
        """
        ticket = Ticket(
            request, timeout=timeout, on_update=on_update, previews=previews, withdraw=self._worker.withdraw
        )
        entry = Entry(ticket, request.batch_key, self._sharing.sizes(request))
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
            self._sharing.sizes(usual)[-1],
            low_memory=pipe.low_memory,
        )
