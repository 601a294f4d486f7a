"""How long pictures take, measured, and in which shares they are asked for.

    {"kinds": {"hybrid-128x128": {"seconds": [0.61, 0.63, ...]}, "large-128x128": {"seconds": [...]}}}

A kind is whatever has a time of its own: a method in a size with its settings. Seconds are those of single pictures
that a replica draws with nothing else to do. What else the file says (machine, versions, settings) is for people.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import finite

Shares = Mapping[str, float]

TOLERANCE = 1e-3
"""By how much shares may miss 1: they are written with few digits."""


@dataclass(frozen=True)
class Workload:
    """What the pictures of a mix take. seconds: [samples], ascending. weights: [samples], each one's share; sum 1."""

    seconds: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.weights @ self.seconds)

    @property
    def variation(self) -> float:
        """Squared coefficient of variation: variance over squared mean; 0: all take the same, 1: as an exponential."""
        return float(self.weights @ (self.seconds - self.mean) ** 2) / self.mean**2

    def quantile(self, share: float) -> float:
        """Seconds within which such a share of the pictures is drawn, with no wait."""
        place = np.searchsorted(np.cumsum(self.weights), share - 1e-12)
        return float(self.seconds[min(place, len(self.seconds) - 1)])


def mixed(times: Mapping[str, tuple[float, ...]], shares: Shares | None = None) -> Workload:
    """The workload of a mix.

    Args:
        times: seconds by kind. shares: of the kinds, sum 1; None: all alike.

    Raises:
        HybridStitchError: a kind without times, a share that is not positive, or shares that do not add up to 1.
    """
    shares = {name: 1 / len(times) for name in times} if shares is None else checked_shares(shares)
    for name in shares:
        if name not in times:
            near = get_close_matches(name, times, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"measured: {', '.join(times)}"
            raise HybridStitchError(f"there are no service times of {name!r:.80}; {hint}")
    seconds = np.concatenate([times[name] for name in shares])
    weights = np.concatenate([np.full(len(times[name]), share / len(times[name])) for name, share in shares.items()])
    order = np.argsort(seconds, kind="stable")
    return Workload(seconds[order], weights[order] / weights.sum())


def checked_shares(shares: Mapping[str, Any]) -> dict[str, float]:
    """
    Raises:
        HybridStitchError: none, one that is no positive number, or a sum other than 1.
    """
    if not shares:
        raise HybridStitchError("a mix has at least one share, such as hybrid-128x128 = 1.0")
    checked = {name: finite(f"share {name}", share) for name, share in shares.items()}
    for name, share in checked.items():
        if share <= 0:
            raise HybridStitchError(f"share {name} must be over 0, not {share:g}; leave out what is not asked for")
    if abs(sum(checked.values()) - 1) > TOLERANCE:
        raise HybridStitchError(f"the shares add up to {sum(checked.values()):g}, not to 1")
    return checked


def read_mix(path: Path) -> dict[str, float]:
    """Shares from a TOML file of lines such as `hybrid-128x128 = 0.7`.

    Raises:
        HybridStitchError: a file that cannot be read, or as `checked_shares`; the message names the file.
    """
    try:
        return checked_shares(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise HybridStitchError(f"mix {path} cannot be read: {error.strerror}") from None
    except HybridStitchError as error:
        raise HybridStitchError(f"mix {path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise HybridStitchError(f"mix {path} is not TOML: {error}") from None


def read_service_times(path: Path) -> tuple[dict[str, tuple[float, ...]], dict[str, Any]]:
    """Seconds by kind, and everything that the file says.

    Raises:
        HybridStitchError: a file that cannot be read or is of another form; the message names file and kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise HybridStitchError(f"service times {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise HybridStitchError(f"service times {path} are not JSON: {error}") from None
    kinds = content.get("kinds") if isinstance(content, dict) else None
    if not isinstance(kinds, dict) or not kinds:
        raise HybridStitchError(f'service times {path}: expected {{"kinds": {{NAME: {{"seconds": [...]}}}}}}')
    return {name: _seconds(path, name, kind) for name, kind in kinds.items()}, content


def _seconds(path: Path, name: str, kind: Any) -> tuple[float, ...]:
    seconds = kind.get("seconds") if isinstance(kind, dict) else None
    if not isinstance(seconds, list) or not seconds:
        raise HybridStitchError(f"service times {path}: {name!r:.80} has no list of seconds")
    try:
        checked = tuple(finite("seconds", value) for value in seconds)
    except HybridStitchError as error:
        raise HybridStitchError(f"service times {path}: {name!r:.80}: {error}") from None
    if min(checked) <= 0:
        raise HybridStitchError(f"service times {path}: {name!r:.80}: seconds must be over 0, not {min(checked):g}")
    return checked
