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
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"an interval is of one number a picture, not of an array of shape {numbers.shape}")
    picks = np.random.default_rng(seed).integers(numbers.size, size=(RESAMPLES, numbers.size))
    low, high = np.percentile(numbers[picks].mean(axis=1), [2.5, 97.5])
    return Interval(float(numbers.mean()), float(low), float(high))
