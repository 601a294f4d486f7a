"""What a picture costs before it is drawn: seconds of each kind of step, and a part that every picture has.

A step is full (the large model on every token), hybrid at some mask ratio (the large model on that share beside the
small one on all), masked (the same without the small one), or small; a hand-over that measures residual or gap has one
more call of the small model. On one machine, at one size, all of a kind take the same time: so a few measured pictures
tell the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.program import MASKED, Kind, make_program
from hybridstitch.method.settings import Sketch

FIXED, FULL, SMALL = "fixed", Kind.FULL, Kind.SMALL


def hybrid_kind(ratio: float, sketch: Sketch = Sketch.SMALL) -> str:
    """The name of a hybrid step at that mask ratio: with the small model, or without it."""
    return f"hybrid@{ratio:g}" if sketch is Sketch.SMALL else f"masked@{ratio:g}"


def kinds(parameters: SamplingParameters) -> Counter[str]:
    """How often a run does what: see the top of this file. An adaptive run has no count before it is drawn."""
    counts = Counter({FIXED: 1})
    for step in make_program(parameters):
        counts[hybrid_kind(parameters.mask_ratio, parameters.sketch) if step.kind in MASKED else step.kind] += 1
        if step.measure:
            counts[SMALL] += 1
    return counts


@dataclass(frozen=True)
class TimeModel:
    """Seconds of each kind; see the top of this file."""

    costs: Mapping[str, float]

    def seconds(self, parameters: SamplingParameters) -> float:
        """What a picture takes.

        Raises:
            KeyError: a kind of step that was never measured.
        """
        return sum(self.costs[kind] * count for kind, count in kinds(parameters).items())


def fit(tried: Sequence[SamplingParameters], seconds: Sequence[float]) -> TimeModel:
    """The costs, none below 0, that explain measured seconds with the least squared relative error.

    Raises:
        HybridStitchError: fewer than there are kinds of step in them.
    """
    counts = [kinds(parameters) for parameters in tried]
    names = sorted(set().union(*counts))
    if len(tried) < len(names):
        raise HybridStitchError(f"{len(tried)} measured runs do not tell {len(names)} kinds of step apart")
    table = np.array([[count[name] for name in names] for count in counts], dtype=float)
    scale = 1 / np.asarray(seconds, dtype=float)
    costs = _least_squares(table * scale[:, None], np.ones(len(tried)))
    return TimeModel(dict(zip(names, map(float, costs), strict=True)))


def _least_squares(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """x >= 0 of the least |table x - wanted|: the most negative is made 0 and the rest solved again, until none is."""
    columns = list(range(table.shape[1]))
    solution = np.zeros(table.shape[1])
    while columns:
        solved, *_ = np.linalg.lstsq(table[:, columns], values, rcond=None)
        if solved.min() >= 0:
            solution[columns] = solved
            break
        columns.pop(int(solved.argmin()))
    return solution


def error(model: TimeModel, tried: Sequence[SamplingParameters], seconds: Sequence[float]) -> float:
    """The median relative error of the model over measured runs; 0.05 is 5 %."""
    return median(abs(model.seconds(parameters) / took - 1) for parameters, took in zip(tried, seconds, strict=True))
