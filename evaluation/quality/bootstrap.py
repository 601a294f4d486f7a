"""How sure a mean is: percentile bootstrap over the pictures that it was taken of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean, and between which values it lies in 95 of 100 resamples."""

    mean: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        return not self.low <= value <= self.high


def interval(values: ArrayLike, seed: int = 0) -> Interval:
    """The mean of values, one a picture, and its 95 % interval. For paired differences give the differences.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"an interval is of one number a picture, not of an array of shape {found.shape}")
    picks = np.random.default_rng(seed).integers(found.size, size=(RESAMPLES, found.size))
    low, high = np.percentile(found[picks].mean(axis=1), [2.5, 97.5])
    return Interval(float(found.mean()), float(low), float(high))
