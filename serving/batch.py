"""One batch, driven from its first step to an answer for each of its tickets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybridstitch.method.schedule import Stage
from hybridstitch.runtime.drawing import Drawing
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Failure, Picture
from hybridstitch.runtime.timing import Stopwatch

from .errors import NotDrawn, ServingError
from .queue import Batch
from .ticket import Ticket

Answer = Callable[[Ticket, Picture | ServingError], None]


class RunningBatch:
    """A batch under way. Those that are over are answered and stay as rows that nobody asks for; when all are over, the
    drawing is not asked for another step.

    drawn: whether it became at least one picture. problem: what went wrong with the engines, when no image came out
    well.
    """

    def __init__(self, pipe: HybridStitch, batch: Batch, answer: Answer, between: Callable[[], None]) -> None:
        """
        Args:
            answer: called with a ticket and what became of it, once for each.
            between: called between two steps.
        """
        self._pipe, self._answer, self._between = pipe, answer, between
        self._tickets, self._images = batch.tickets, batch.images
        self._running = list(batch.tickets)
        self.drawn = False
        self.problem: str | None = None

    def draw(self, watch: Stopwatch) -> None:
        """Draw to the end, or until nobody is left; every ticket is answered.

        Raises:
            Exception: whatever the engines raise; tickets that were left then have no answer.
        """
        requests = [ticket.request for ticket in self._tickets]
        requests += requests[-1:] * (self._images - len(requests))
        with self._pipe.drawing(requests, watch) as drawing:
            self._step_through(drawing)
            outcomes = drawing.finish() if self._running else []
        self._finish(outcomes[: len(self._tickets)])

    def _step_through(self, drawing: Drawing) -> None:
        self._tell(drawing, 0, drawing.batch[0].parameters.schedule.stage(0))
        steps = iter(drawing)
        while self._any_left() and (step := next(steps, None)) is not None:
            self._tell(drawing, step.index + 1, step.stage)
            self._between()

    def _any_left(self) -> bool:
        """Answer those that were cancelled or are out of time; whether there are others."""
        for ticket in list(self._running):
            if (why := ticket.verdict()) is not None:
                self._end(ticket, why)
        return bool(self._running)

    def _tell(self, drawing: Drawing, step: int, stage: Stage) -> None:
        previews = drawing.preview() if any(ticket.wants_preview(step) for ticket in self._running) else None
        for ticket in list(self._running):
            preview = previews[self._tickets.index(ticket)] if previews and ticket.wants_preview(step) else None
            if (failure := ticket.update(step, str(stage), preview)) is not None:
                self._end(ticket, failure)

    def _finish(self, outcomes: Sequence[Picture | Failure]) -> None:
        errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failure)]
        self.drawn = len(errors) < len(outcomes)
        self.problem = errors[0] if errors and not self.drawn else None
        for ticket, outcome in zip(self._tickets, outcomes, strict=False):  # none, when nobody was left
            if ticket in self._running:
                self._end(ticket, NotDrawn(outcome.error) if isinstance(outcome, Failure) else outcome)

    def _end(self, ticket: Ticket, outcome: Picture | ServingError) -> None:
        self._running.remove(ticket)
        self._answer(ticket, outcome)
