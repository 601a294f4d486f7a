"""Whether a service can be sent requests: told by real inferences, never by a thread that is merely alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.size import Size
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Failure, Picture

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


def draw_a_little(pipe: HybridStitch, size: Size, seeds: Sequence[int] = (0,)) -> list[Picture]:
    """A real inference, the shortest that calls every engine in every way; in one batch of these seeds.

    Raises:
        HybridStitchError: it went wrong.
    """
    short: dict[str, Any] = {"method": "hybrid", "steps": 4, "large_steps": 2, "hybrid_steps": 1}
    batch = [pipe.requests.resolve("a picture", seed=seed, size=size, **short) for seed in seeds]
    batch += batch[-1:] * (batch[0].batch_sizes[0] - len(batch))
    with pipe.drawing(batch) as drawing:
        for _step in drawing:
            pass
        outcomes = drawing.finish()
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            raise HybridStitchError(outcome.error)
    return [outcome for outcome in outcomes if isinstance(outcome, Picture)]
