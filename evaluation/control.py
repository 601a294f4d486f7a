"""The control of a method of two models: the large model alone in as many steps as fit into the same time.

There are three ways to find it, one for each question:

- A bench asks which number of steps of the large model takes as long: `find_controls` measures it.
- An evaluation asks what the large model would be worth in the same time: `worth_at`, between two numbers of steps.
- A tuning asks for the best of large in fewer steps that keeps to its target: `tuning.verdict.decide` ranks what does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from statistics import median

import numpy as np

from hybridstitch.evaluation.variants import Variant
from hybridstitch.method.progress import OnProgress, silent
from hybridstitch.runtime.pipeline import HybridStitch

from .speed.timing import Drawn, Measured, interleave


def nearest_steps(seconds: Callable[[int], float], target: float, most: int) -> int:
    """Which number of steps, 1 to `most`, takes as long as a target: the one whose seconds are nearest, by bisection.

    Between two that are as near it is the larger one: a control may rather have too much time than too little.

    Args:
        seconds: of a number of steps; must not fall as that grows. Asked for about log2(most) of them.
    """
    low, high = 1, most
    if target >= seconds(high):
        return high
    if target <= seconds(low):
        return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) <= target else (low, middle)
    return low if target - seconds(low) < seconds(high) - target else high


def shares(measured: Mapping[str, Measured], whole: str) -> dict[str, float]:
    """Each variant's seconds as a share of one variant's: the median over pictures that were drawn in turn, which a
    machine that slows down for both does not change."""
    seconds = measured[whole].seconds
    return {
        name: median(part / all_ for part, all_ in zip(own.seconds, seconds, strict=True))
        for name, own in measured.items()
    }


def find_controls(
    pipe: HybridStitch,
    large: Variant,
    variants: Sequence[Variant],
    cases: Sequence[Drawn],
    steps: int,
    progress: OnProgress = silent,
) -> dict[str, int]:
    """Which number of steps of `large` takes as long as each variant, measured on the cases, twice each.

    Args:
        steps: large's own, the most that a control has.

    Raises:
        HybridStitchError: as `interleave`.
    """
    targets = shares(interleave(pipe, [large, *variants], cases, 2, progress=progress), large.name)

    @cache
    def share(fewer: int) -> float:
        if fewer == steps:
            return 1.0
        shorter = large.but(f"{large.name}@{fewer}", steps=fewer)
        return shares(interleave(pipe, [large, shorter], cases, 2, progress=progress), large.name)[shorter.name]

    return {variant.name: nearest_steps(share, targets[variant.name], steps) for variant in variants}


def nearest_control(seconds: float, controls: Mapping[str, float]) -> str:
    """Which of the measured controls takes as long: the name of the one whose seconds are nearest."""
    return min(controls, key=lambda name: (abs(controls[name] - seconds), -controls[name]))


def worth_at(cost: float, curve: Sequence[tuple[float, np.ndarray]]) -> np.ndarray | None:
    """What the large model would be worth at the same cost, between two controls in proportion, in each case.

    Args:
        curve: the cost of each number of steps, ascending, and its values, one a case.

    Returns:
        None where it costs more than the one or less than the other end.
    """
    for (low, before), (high, after) in pairwise(curve):
        if low <= cost <= high:
            return before + (cost - low) / (high - low) * (after - before)
    return None
