"""Numbers that users give: whole ones and others, whatever type they came in."""

from __future__ import annotations

import math
from numbers import Real
from operator import index
from typing import Any

from .errors import HybridStitchError, shown

THREADS = range(1, 1025)
"""Far more than helps; beyond it libraries run out of memory instead of saying so."""


def whole(name: str, value: Any, span: range | None = None, allowed: str | None = None) -> int:
    """A whole number of any integer type (numpy's too) as an int.

    Args:
        span: where it must lie, if not anywhere.
        allowed: the span in words, where its ends read badly.

    Raises:
        HybridStitchError: no whole number (True and 1.0 are none), or one outside of `span`.
    """
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or (span is not None and number not in span):
        allowed = allowed or (f"from {span[0]} to {span[-1]}" if span is not None else "")
        given = shown(value if number is None else number)
        raise HybridStitchError(f"{name} must be a whole number {allowed}".rstrip() + f", not {given}")
    return number


def whole_seed(value: Any, images: int = 1) -> int:
    """The seed of the first of some images, each of which has the next one; torch's generators take 63 bits.

    Raises:
        HybridStitchError: as `whole`.
    """
    return whole("seed", value, range(2**63 - images + 1), f"from 0 to 2^63 - {images}")


def finite(name: str, value: Any) -> float:
    """A number of any real type as a float.

    Raises:
        HybridStitchError: no number (True and "1" are none), NaN or infinity.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise HybridStitchError(f"{name} must be a number, not {shown(value)}")
    return number
