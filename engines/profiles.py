"""Optimization profiles: which lengths an engine is built for, and what to say about one that it is not.

A profile is a box: one range (smallest, typical, largest) for each dynamic dimension. The large model has one for the
full run (no frozen tokens) and one for each bucket of mask ratios; with several picture sizes a range spans them all.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-dynamic-shapes.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.tensors import Dimension, TensorSpec

Range = tuple[int, int, int]
"""Smallest, typical and largest length. Kernels are tuned for the typical one."""


NOUNS = {
    "B": "batch rows",
    "M": "tokens",
    "F": "frozen tokens",
    "T": "text tokens",
    "h": "latent rows",
    "w": "latent columns",
}

SIZED = frozenset("Mhw")
"""Dimensions that follow from a picture's size, whichever component has them."""


@dataclass(frozen=True)
class Profile:
    """A named box of lengths: for each dynamic dimension its range."""

    name: str
    ranges: Mapping[str, Range]

    def __post_init__(self) -> None:
        for symbol, (low, typical, high) in self.ranges.items():
            if not 0 <= low <= typical <= high:
                raise HybridStitchError(
                    f"profile {self.name}: {symbol} has the range {low}, {typical}, {high}, which does not ascend"
                )

    def admits(self, lengths: Mapping[str, int]) -> bool:
        """Whether every length lies in its range."""
        return all(low <= lengths[symbol] <= high for symbol, (low, _, high) in self.ranges.items())

    def shapes(self, inputs: Mapping[str, TensorSpec]) -> dict[str, tuple[tuple[int, ...], ...]]:
        """(smallest, typical, largest) shape of each input that has a dynamic dimension."""
        return {
            name: tuple(resolve(spec.dims, {s: r[end] for s, r in self.ranges.items()}) for end in range(3))
            for name, spec in inputs.items()
            if any(isinstance(dim, str) for dim in spec.dims)
        }

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "ranges": {symbol: list(span) for symbol, span in self.ranges.items()}}


def resolve(dims: Sequence[Dimension], lengths: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with every dynamic dimension filled in. KeyError: one that `lengths` does not know."""
    return tuple(dim if isinstance(dim, int) else lengths[dim] for dim in dims)


def best_profile(profiles: Sequence[Profile], lengths: Mapping[str, int]) -> int | None:
    """The index of the profile to run these lengths with: of those that admit them the one tuned for the most similar
    lengths; None: no profile admits them."""

    def distance(profile: Profile) -> int:
        return sum(abs(lengths[symbol] - typical) for symbol, (_, typical, _) in profile.ranges.items())

    admitting = [index for index, profile in enumerate(profiles) if profile.admits(lengths)]
    return min(admitting, key=lambda index: distance(profiles[index]), default=None)


def refusal(component: str, profiles: Iterable[Profile], lengths: Mapping[str, int]) -> str:
    """Why no profile admits these lengths: the dimension, its value and the ranges that there are."""
    profiles = list(profiles)
    for symbol, length in lengths.items():
        ranges = _merge(profile.ranges[symbol] for profile in profiles if symbol in profile.ranges)
        if ranges and not any(low <= length <= high for low, high in ranges):
            return f"{component} engine: {length} {NOUNS[symbol]}; this plan has {_spell(ranges)}"
    varying = [s for s in lengths if len({profile.ranges[s] for profile in profiles}) > 1]
    together = " with ".join(f"{lengths[symbol]} {NOUNS[symbol]}" for symbol in varying)
    available = "; ".join(
        f"{profile.name}: " + " with ".join(f"{_spell([_ends(profile.ranges[s])])} {NOUNS[s]}" for s in varying)
        for profile in profiles
    )
    return f"{component} engine: no profile holds {together}; this plan has {available}"


def _ends(span: Range) -> tuple[int, int]:
    return span[0], span[2]


def _merge(ranges: Iterable[Range]) -> list[tuple[int, int]]:
    """Sorted, with ranges that touch made one."""
    merged: list[tuple[int, int]] = []
    for low, _, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _spell(ranges: Iterable[tuple[int, int]]) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
