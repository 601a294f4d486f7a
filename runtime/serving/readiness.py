"""Whether a service can be sent requests: told by real inferences, never by a thread that is merely alive."""

from __future__ import annotations

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.size import Size
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Failure

FAILURES = 3
"""Batches in a row without one picture, after which a service is not ready."""


class Readiness:
    """problem: what keeps the service from drawing, in one line; None: nothing known."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self._failures = 0

    def succeeded(self) -> None:
        self.problem, self._failures = None, 0

    def failed(self, problem: str) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self.problem = f"no picture in {self._failures} batches; the last: {problem}"


def draw_a_little(pipe: HybridStitch, size: Size) -> None:
    """A real inference, the shortest that calls every engine in every way.

    Raises:
        HybridStitchError: it went wrong.
    """
    request = pipe.requests.resolve("a picture", size=size, method="hybrid", steps=4, large_steps=2, hybrid_steps=1)
    with pipe.drawing([request] * pipe.requests.batch_sizes(request)[0]) as drawing:
        for _step in drawing:
            pass
        for outcome in drawing.finish():
            if isinstance(outcome, Failure):
                raise HybridStitchError(outcome.error)
