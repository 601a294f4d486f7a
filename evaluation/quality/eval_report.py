"""What an evaluation came to: each variant's quality with its interval, and beside the control of equal time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.control import worth_at
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

    seconds: the median a picture. operations: of its program, in full steps; None: not counted. speedup: over the large
    model, of the same cases, or by operations where these are counted. means: of psnr (dB), ssim, lpips
    and feature_distance, those that were measured. accuracy: by attribute, what the judge finds right; all_right:
    everything in a picture. frechet: of the scene's features, to true pictures. beside_control: means of the paired
    differences to the large model alone in the same time (psnr, all_right), or with as many operations; None where no
    number of steps takes that.
    beside_grid: the same beside fewer steps of the large model on a grid, where there are such.
    """

    variant: Variant
    seconds: float
    operations: float | None
    speedup: float
    means: Mapping[str, Interval]
    accuracy: Mapping[str, float] | None
    all_right: Interval | None
    frechet: float | None
    beside_control: Mapping[str, Interval | None]
    beside_grid: Mapping[str, Interval | None]

    @property
    def cost(self) -> float:
        """What it is compared by: operations, or seconds."""
        return self.seconds if self.operations is None else self.operations

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "variant": self.variant.name, "settings": dict(self.variant.settings)}


def rows_of(
    records: Records,
    large: Variant,
    variants: Sequence[Variant],
    cases: Sequence[PromptCase],
    true_features: np.ndarray | None = None,
    operations: Mapping[str, float] | None = None,
) -> list[EvalRow]:
    """One row for each variant, of the cases that all of them have been drawn for.

    Args:
        true_features: [n, D] of true pictures; None: there is no judge.
        operations: of each variant's program, by its name, to compare by; None: seconds are compared.
    """
    every = [large, *(variant for variant in variants if variant.name != large.name)]
    records_of = {variant.name: [records.find(variant, case) for case in cases] for variant in every}
    complete = [place for place in range(len(cases)) if all(each[place] is not None for each in records_of.values())]
    runs = {
        name: _Run([record for place in complete if (record := each[place])], operations[name] if operations else None)
        for name, each in records_of.items()
    }
    controls = [
        _Control([runs[variant.name] for variant in every if variant.curve == curve and variant.aid is None])
        for curve in (large.curve, LARGE_ON_GRID)
    ]
    return [_row(variant, runs[variant.name], runs[large.name], controls, true_features) for variant in every]


@dataclass(frozen=True)
class _Run:
    """A variant's records, one of each case, and its operations where these are compared."""

    records: Sequence[Record]
    operations: float | None

    @property
    def seconds(self) -> float:
        return median(record["seconds"] for record in self.records)

    @property
    def cost(self) -> float:
        """What is compared: operations, or seconds."""
        return self.seconds if self.operations is None else self.operations

    def speedup(self, large: _Run) -> float:
        if self.operations is not None and large.operations is not None:
            return large.operations / self.operations
        pairs = zip(large.records, self.records, strict=True)
        return median(whole["seconds"] / part["seconds"] for whole, part in pairs)


def _row(
    variant: Variant,
    run: _Run,
    large: _Run,
    controls: Sequence[_Control],
    true_features: np.ndarray | None,
) -> EvalRow:
    records = run.records
    alone = [control.all_beside(run) for control in controls]
    judged = true_features is not None
    return EvalRow(
        variant=variant,
        seconds=run.seconds,
        operations=run.operations,
        speedup=run.speedup(large),
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
    """The large model alone, over its numbers of steps: what it reaches at any cost between two of them."""

    def __init__(self, runs: Sequence[_Run]) -> None:
        self._runs = sorted(runs, key=lambda run: run.cost)

    def all_beside(self, run: _Run) -> dict[str, Interval | None]:
        """`beside` of each value; nothing for its own runs."""
        return {} if run in self._runs else {name: self.beside(name, run) for name in ("psnr", "all_right")}

    def beside(self, name: str, run: _Run) -> Interval | None:
        """The mean of what each picture has more than the control's of the same case, at the same cost: see
        `worth_at`. None: no number of steps costs that."""
        if name == "all_right" and "right" not in run.records[0]:
            return None
        measured = [each for each in self._runs if name == "all_right" or name in each.records[0]]
        worth = worth_at(run.cost, [(each.cost, values(each.records, name)) for each in measured])
        return None if worth is None else interval(values(run.records, name) - worth)
