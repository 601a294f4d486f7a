"""Which lengths an engine is verified at: the corners of each profile and lengths in between.

Kernels are tuned for a profile's typical lengths, and plans that are right there and wrong elsewhere are common enough
(TensorRT issues 2943 and 4450) that the typical ones alone prove little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridstitch.engines.profiles import Profile, best_profile
from hybridstitch.engines.store.manifest import Manifest


@dataclass(frozen=True)
class CallCase:
    """One call to compare. profile: the one that the lengths run in; place: where in a profile they lie."""

    profile: str
    place: str
    lengths: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.profile} {self.place} ({', '.join(f'{s} {length}' for s, length in self.lengths.items())})"


def cases_for(manifest: Manifest, *, quick: bool = False) -> list[CallCase]:
    """The cases of one engine, each lengths once.

    Args:
        quick: of each profile the typical lengths and one in between, instead of its corners too.
    """
    cases: dict[tuple[tuple[str, int], ...], CallCase] = {}
    for profile in manifest.profiles:
        for place, lengths in _places(profile).items():
            if quick and place not in ("opt", "low between"):
                continue
            index = best_profile(manifest.profiles, lengths)  # where profiles overlap, the one that will run it
            assert index is not None
            key = tuple(sorted(lengths.items()))
            cases.setdefault(key, CallCase(manifest.profiles[index].name, place, lengths))
    return list(cases.values())


def _places(profile: Profile) -> dict[str, dict[str, int]]:
    """Lengths by the name of their place.

    Of computed and frozen tokens, and of rows and columns, one is large where the other is small: "rising" and
    "falling" are those corners, with the largest and the smallest batch.
    """
    ranges = profile.ranges
    low, typical, high = ({symbol: span[end] for symbol, span in ranges.items()} for end in range(3))
    sides = [symbol for symbol in ranges if symbol not in ("B", "T")]
    batch = ["B"] if "B" in ranges else []
    return {
        "opt": typical,
        "min": low,
        "max": high,
        "rising": {**low, **_pick(high, [*sides[1:], *batch])},
        "falling": {**low, **_pick(high, sides[:1])},
        "low between": _between(profile, 1),
        "high between": _between(profile, 2),
    }


def _pick(lengths: Mapping[str, int], symbols: Sequence[str]) -> dict[str, int]:
    return {symbol: lengths[symbol] for symbol in symbols}


def _between(profile: Profile, thirds: int) -> dict[str, int]:
    """One or two thirds of the way from the smallest to the largest length, and odd: on no grid of buckets."""
    between = {}
    for symbol, (low, _, high) in profile.ranges.items():
        length = low + (high - low) * thirds // 3
        between[symbol] = length + 1 if length % 2 == 0 and length < high else length
    return between
