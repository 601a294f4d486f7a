"""What an evaluation came to: each variant's quality with its interval, and beside the control of equal time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from hybridstitch.evaluation.cases import Case
from hybridstitch.evaluation.variants import LARGE_ON_GRID, Variant
from hybridstitch.evaluation.world.judge import shares

from .bootstrap import Interval, interval
from .frechet import frechet_distance
from .records import Record, Records

MEANS = ("psnr", "ssim", "lpips", "feature_distance")
"""Of each picture beside the large model's own."""


@dataclass(frozen=True)
class EvalRow:
    """A variant over all cases.

    seconds: the median a picture; speedup: over the large model, of the same cases. means: of psnr (dB), ssim, lpips
    and feature_distance, those that were measured. accuracy: by attribute, what the judge finds right; all_right:
    everything in a picture. frechet: of the scene's features, to true pictures. beside_control: means of the paired
    differences to the large model alone in the same time (psnr, all_right); None where no number of steps takes that.
    beside_grid: the same beside fewer steps of the large model on a grid, where there are such.
    """

    variant: Variant
    seconds: float
    speedup: float
    means: Mapping[str, Interval]
    accuracy: Mapping[str, float] | None
    all_right: Interval | None
    frechet: float | None
    beside_control: Mapping[str, Interval | None]
    beside_grid: Mapping[str, Interval | None]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "variant": self.variant.name, "settings": dict(self.variant.settings)}


def rows_of(
    records: Records,
    large: Variant,
    variants: Sequence[Variant],
    cases: Sequence[Case],
    true_features: np.ndarray | None = None,
) -> list[EvalRow]:
    """One row for each variant, of the cases that all of them have been drawn for.

    Args:
        true_features: [n, D] of true pictures; None: there is no judge.
    """
    every = [large, *(variant for variant in variants if variant.name != large.name)]
    found = {variant.name: [records.find(variant, case) for case in cases] for variant in every}
    complete = [place for place in range(len(cases)) if all(each[place] is not None for each in found.values())]
    kept = {name: [record for place in complete if (record := each[place])] for name, each in found.items()}
    controls = [
        _Control([kept[variant.name] for variant in every if variant.curve == curve and variant.aid is None])
        for curve in (large.curve, LARGE_ON_GRID)
    ]
    return [_row(variant, kept[variant.name], kept[large.name], controls, true_features) for variant in every]


def _row(
    variant: Variant,
    records: Sequence[Record],
    large: Sequence[Record],
    controls: Sequence[_Control],
    true_features: np.ndarray | None,
) -> EvalRow:
    seconds = [record["seconds"] for record in records]
    speedup = median(whole["seconds"] / part for whole, part in zip(large, seconds, strict=True))
    alone = [control.all_beside(records) for control in controls]
    judged = true_features is not None
    return EvalRow(
        variant=variant,
        seconds=median(seconds),
        speedup=speedup,
        means={name: interval([record[name] for record in records]) for name in MEANS if name in records[0]},
        accuracy=shares([record["right"] for record in records]) if judged else None,
        all_right=interval(values(records, "all_right")) if judged else None,
        frechet=_frechet(records, true_features),
        beside_control=alone[0],
        beside_grid={} if variant.method == "large" else alone[1],
    )


def values(records: Sequence[Record], name: str) -> np.ndarray:
    """Of each picture its psnr, or 1 where everything in it is right, else 0."""
    if name == "all_right":
        return np.array([float(record["right"]["all"][0]) for record in records])
    return np.array([record[name] for record in records])


def _frechet(records: Sequence[Record], true_features: np.ndarray | None) -> float | None:
    if true_features is None or len(records) < 2:
        return None
    return frechet_distance(np.array([record["features"] for record in records]), true_features)


class _Control:
    """The large model alone, over its numbers of steps: what it reaches in any time between two of them."""

    def __init__(self, runs: Sequence[Sequence[Record]]) -> None:
        self._runs = sorted(runs, key=lambda records: median(record["seconds"] for record in records))
        self._seconds = [median(record["seconds"] for record in records) for records in self._runs]

    def knows(self, records: Sequence[Record]) -> bool:
        """Whether these are of the control itself."""
        return any(records == run for run in self._runs)

    def all_beside(self, records: Sequence[Record]) -> dict[str, Interval | None]:
        """`beside` of each value; nothing for its own records."""
        return {} if self.knows(records) else {name: self.beside(name, records) for name in ("psnr", "all_right")}

    def beside(self, name: str, records: Sequence[Record]) -> Interval | None:
        """The mean of what each picture has more than the control's of the same case, in the same time: between two
        numbers of steps in proportion. None: it takes more time than the one or less than the other end."""
        if name == "all_right" and "right" not in records[0]:
            return None
        known = [place for place, run in enumerate(self._runs) if name == "all_right" or name in run[0]]
        target = median(record["seconds"] for record in records)
        for low, high in pairwise(known):
            if self._seconds[low] <= target <= self._seconds[high]:
                share = (target - self._seconds[low]) / (self._seconds[high] - self._seconds[low])
                before, after = (values(self._runs[place], name) for place in (low, high))
                return interval(values(records, name) - (before + share * (after - before)))
        return None
