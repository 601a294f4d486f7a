"""A service that draws plain squares as slowly as a test wants: the real tickets and errors, no engines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.size import Size
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.request import Request
from hybridstitch.runtime.result import Picture
from hybridstitch.serving.errors import Closed, NotDrawn, QueueFull, ServingError
from hybridstitch.serving.observer import Observer
from hybridstitch.serving.ticket import Ticket

ROWS = 16


class Double:
    """Draws each request in a thread of its own, once `go` is set. broken: prompts whose pictures go wrong.

    taken: every request that was submitted. step: called before each step.
    """

    def __init__(self, recipe: Recipe, *, max_queue: int = 16) -> None:
        self.go, self.recipe, self.max_queue = threading.Event(), recipe, max_queue
        self.go.set()
        self.observer: Observer | None = None
        self.problem: str | None = None
        self.lost: str | None = None
        self.broken: set[str] = set()
        self.taken: list[Request] = []
        self.tickets: list[Ticket] = []
        self.step: Callable[[int], None] = lambda _number: None
        self.closed: bool | None = None
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        return self.problem is None and self.lost is None

    @property
    def waiting(self) -> int:
        return sum(not ticket.done for ticket in self.tickets)

    running = 0

    def resolve(self, prompt: str, *, negative_prompt=None, seed=0, size=None, method=None, **settings: Any) -> Request:
        parameters = make_parameters(self.recipe, method, **settings)
        if not prompt:
            raise HybridStitchError("the prompt is empty: say what to draw", parameter="prompt")
        wanted = Size.parse(size or self.recipe.defaults.size)
        if wanted not in self.recipe.profiles.sizes:
            raise HybridStitchError(f"size {wanted} is none of the recipe's", parameter="size")
        return Request(prompt, negative_prompt or "", seed, wanted, parameters)

    def submit(self, request: Request, *, timeout=None, on_update=None, previews=0) -> Ticket:
        if self.closed is not None:
            raise Closed("the service is closed")
        with self._lock:
            if self.waiting >= self.max_queue:
                if self.observer is not None:
                    self.observer.refused(QueueFull.kind)
                raise QueueFull(f"the queue is full: {self.waiting} requests wait; try again later")
            ticket = Ticket(request, timeout=timeout, on_update=on_update, previews=previews)
            self.taken.append(request)
            self.tickets.append(ticket)
        threading.Thread(target=self._draw, args=(ticket,), daemon=True).start()
        return ticket

    def close(self, drain: bool = True) -> None:
        self.closed = drain

    def _draw(self, ticket: Ticket) -> None:
        observer = self.observer or Observer()
        try:
            picture = self._steps(ticket)
        except ServingError as error:
            observer.failed(ticket.request, error.kind)
            ticket.settle(error)
        else:
            observer.began(1)
            observer.stage("large", 0.02)
            observer.finished(ticket.request, 0.5)
            ticket.settle(picture)

    def _steps(self, ticket: Ticket) -> Picture:
        request, schedule = ticket.request, ticket.request.parameters.schedule
        image = Image.new("RGB", (request.size.width, request.size.height), (request.seed % 256, 90, 160))
        for number in range(schedule.steps + 1):
            while not self.go.wait(0.01) and ticket.verdict() is None:
                pass
            self.step(number)
            if (verdict := ticket.verdict()) is not None:
                raise verdict
            preview = image if number and ticket.wants_preview(number) else None
            failure = ticket.update(number, str(schedule.stage(max(0, number - 1))), preview)
            if failure is not None:
                raise failure
        if request.prompt in self.broken:
            raise NotDrawn("engine vae_decoder gave NaN")
        refined = torch.zeros(ROWS, ROWS) if request.parameters.has_hybrid else None
        return Picture(
            image=image,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seed=request.seed,
            size=request.size,
            parameters=request.parameters,
            latents=torch.zeros(4, ROWS, ROWS),
            refined=refined,
            mask_ratio=0.3,
        )
