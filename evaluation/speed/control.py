"""The control of a method of two models: the large model alone in as many steps as fit into the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from statistics import median

from hybridstitch.evaluation.variants import Variant
from hybridstitch.method.progress import OnProgress, silent
from hybridstitch.runtime.pipeline import HybridStitch

from .timing import Drawn, Measured, interleave


def nearest_steps(seconds: Callable[[int], float], target: float, most: int) -> int:
    """The number of steps, 1 to `most`, whose seconds are nearest to a target, by bisection.

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
    """For each variant the number of steps in which `large` takes as long, measured on the cases, twice each.

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
    """The control whose seconds are nearest, by its name."""
    return min(controls, key=lambda name: (abs(controls[name] - seconds), -controls[name]))
