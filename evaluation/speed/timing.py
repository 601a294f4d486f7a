"""Seconds of several variants on one machine, interleaved, so that a machine that slows down slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np

from hybridstitch.evaluation.variants import Variant
from hybridstitch.method.progress import OnProgress, Progress, silent
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Result
from hybridstitch.runtime.timing import Timing


class Drawn(Protocol):
    """What is drawn, such as a `Case`: a prompt, and the seed that it is always drawn with."""

    @property
    def prompt(self) -> str: ...

    @property
    def seed(self) -> int: ...


OnPicture = Callable[[Variant, Drawn, int, Result], None]
"""Told of each picture: the variant, the case, the repetition (from 0) and the run."""


@dataclass(frozen=True)
class Measured:
    """What a variant took.

    seconds: of each picture from prompt to pixels, in the order of repetitions and, within one, of cases.
    stages: median seconds of each stage (text, large, hybrid, small, decode).
    overhead: the median share of a run in which no engine was running.
    """

    seconds: tuple[float, ...]
    stages: Mapping[str, float]
    overhead: float

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The seconds that a quarter, and three quarters, of the pictures stay below."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)


def interleave(
    pipe: HybridStitch,
    variants: Sequence[Variant],
    cases: Sequence[Drawn],
    repetitions: int,
    on_picture: OnPicture | None = None,
    progress: OnProgress = silent,
) -> dict[str, Measured]:
    """Draw every case with every variant, `repetitions` times, and say what each variant took, by its name.

    Each variant first draws once unmeasured. Then the variants take turns at each case.

    Args:
        on_picture: called after each measured picture; its own time is not counted.

    Raises:
        HybridStitchError: a setting that a variant's method does not have or the engines do not take; told before
            anything is drawn.
    """
    for variant in variants:
        for case in cases:
            pipe.resolve([case.prompt], seed=case.seed, **variant.settings)
    total = len(variants) * (1 + repetitions * len(cases))
    done, runs = 0, {variant.name: [] for variant in variants}
    for variant in variants:
        progress(Progress(f"warm-up: {variant.name}", done, total))
        pipe(cases[0].prompt, seed=cases[0].seed, **variant.settings)
        done += 1
    for repetition in range(repetitions):
        for case in cases:
            for variant in variants:
                progress(Progress(variant.name, done, total))
                result = pipe(case.prompt, seed=case.seed, **variant.settings)
                runs[variant.name].append(result.timing)
                if on_picture is not None:
                    on_picture(variant, case, repetition, result)
                done += 1
    progress(Progress("measured", total, total))
    return {name: _measured(timings) for name, timings in runs.items()}


def _measured(timings: Sequence[Timing]) -> Measured:
    return Measured(
        seconds=tuple(timing.total for timing in timings),
        stages={name: median(timing.stages[name].seconds for timing in timings) for name in timings[0].stages},
        overhead=median(timing.overhead for timing in timings),
    )
