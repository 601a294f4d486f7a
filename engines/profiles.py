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
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.masks import masked_count
from hybridstitch.method.recipe import Recipe

from .graph import Dimension, Graph, TensorSpec

Range = tuple[int, int, int]
"""Smallest, typical and largest length. Kernels are tuned for the typical one."""

LARGEST_VOLUME = 2**31 - 1  # TensorRT counts a tensor's elements in 32 bits

NOUNS = {
    "B": "batch rows",
    "M": "tokens",
    "F": "frozen tokens",
    "T": "text tokens",
    "h": "latent rows",
    "w": "latent columns",
}


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
        return {"name": self.name, "ranges": {symbol: list(found) for symbol, found in self.ranges.items()}}


def resolve(dims: Sequence[Dimension], lengths: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with every dynamic dimension filled in. KeyError: one that `lengths` does not know."""
    return tuple(dim if isinstance(dim, int) else lengths[dim] for dim in dims)


def profiles_for(
    graph: Graph, recipe: Recipe, *, geometry: Geometry, static_batch: bool = False
) -> tuple[Profile, ...]:
    """The profiles of one component.

    Args:
        geometry: the large transformer's, which text encoders and VAE must fit.
        static_batch: one profile for each batch that the recipe names, instead of a range that holds them all.

    Raises:
        HybridStitchError: a dynamic dimension that is none of B, M, F, T, h, w; a size that the model cannot
            draw; a tensor of more elements than an engine can count.
    """
    symbols = {dim for spec in graph.inputs.values() for dim in spec.dims if isinstance(dim, str)}
    if unknown := sorted(symbols - NOUNS.keys()):
        raise HybridStitchError(
            f"{graph.folder}: dynamic dimension {unknown[0]!r} is none of {', '.join(NOUNS)}; export again"
        )
    boxes = _token_boxes(recipe, geometry, frozen="F" in symbols) if "M" in symbols else {"full": {}}
    fixed = {"T": _only(geometry.text_tokens), **_latent_ranges(recipe, geometry)}
    found = []
    for name, box in boxes.items():
        for suffix, batch in _batch_ranges(recipe, graph.component, static_batch):
            ranges = {**fixed, **box, "B": batch}
            found.append(Profile(name + suffix, {s: ranges[s] for s in NOUNS if s in symbols}))
    for profile in found:
        _check_volumes(graph, profile)
    return tuple(found)


def _token_boxes(recipe: Recipe, geometry: Geometry, *, frozen: bool) -> dict[str, dict[str, Range]]:
    """Ranges of M and F: the full run, then the buckets of mask ratios, smallest first."""
    wanted = recipe.profiles
    counts = [geometry.tokens(size) for size in wanted.sizes]
    typical = geometry.tokens(recipe.defaults.size)
    typical = typical if typical in counts else counts[0]
    boxes = {"full": {"M": (min(counts), typical, max(counts)), "F": _only(0)}}
    if not frozen:
        return boxes
    previous = 0.0
    for ratio in (*sorted(set(wanted.mask_ratios)), 1.0):
        name = f"masked-{round(ratio * 100)}" if ratio < 1 else "masked-over"
        typical_ratio = ratio if ratio < 1 else (previous + 1) / 2
        spans = [span for count in counts if (span := _bucket(count, previous, ratio, wanted.token_bucket))]
        previous = ratio
        if not spans:
            continue
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        frozen_low, frozen_high = min(span[2] for span in spans), max(span[3] for span in spans)
        aim = min(max(masked_count(typical, typical_ratio, wanted.token_bucket), low), high)
        rest = min(max(typical - aim, frozen_low), frozen_high)
        boxes[name] = {"M": (low, aim, high), "F": (frozen_low, rest, frozen_high)}
    return boxes


def _bucket(count: int, above: float, ratio: float, bucket: int) -> tuple[int, int, int, int] | None:
    """Smallest and largest M, smallest and largest F of one picture size; None where the bucket is empty."""
    low = masked_count(count, above, bucket) + 1
    high = min(masked_count(count, ratio, bucket), count - 1)
    return (low, high, count - high, count - low) if low <= high else None


def _batch_ranges(recipe: Recipe, component: str, static: bool) -> list[tuple[str, Range]]:
    """Guidance doubles the rows of transformers and text encoders; pictures are decoded once."""
    sizes = recipe.profiles.batch_sizes
    doubled = component != "vae_decoder"
    rows = sorted({*sizes, *(2 * size for size in sizes)} if doubled else set(sizes))
    if static:
        return [(f"-batch-{row}", _only(row)) for row in rows]
    return [("", (1, 2 * sizes[0] if doubled else sizes[0], max(rows)))]


def _latent_ranges(recipe: Recipe, geometry: Geometry) -> dict[str, Range]:
    sizes = recipe.profiles.sizes
    aim = recipe.defaults.size if recipe.defaults.size in sizes else sizes[0]
    high = [size.height // geometry.vae_factor for size in sizes]
    wide = [size.width // geometry.vae_factor for size in sizes]
    return {
        "h": (min(high), aim.height // geometry.vae_factor, max(high)),
        "w": (min(wide), aim.width // geometry.vae_factor, max(wide)),
    }


def _only(length: int) -> Range:
    return (length, length, length)


def _check_volumes(graph: Graph, profile: Profile) -> None:
    lengths = {symbol: high for symbol, (_, _, high) in profile.ranges.items()}
    for name, spec in {**graph.inputs, **graph.outputs}.items():
        if any(isinstance(dim, str) and dim not in lengths for dim in spec.dims):
            continue  # a length that only the graph can tell, as the picture's
        volume = 1
        for dim in resolve(spec.dims, lengths):
            volume *= dim
        if volume > LARGEST_VOLUME:
            raise HybridStitchError(
                f"{graph.component}: tensor {name} would have {volume} elements in profile {profile.name}, at most "
                f"{LARGEST_VOLUME} are possible; lower the recipe's batch_sizes or sizes"
            )


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
    known = "; ".join(
        f"{profile.name}: " + " with ".join(f"{_spell([_ends(profile.ranges[s])])} {NOUNS[s]}" for s in varying)
        for profile in profiles
    )
    return f"{component} engine: no profile holds {together}; this plan has {known}"


def _ends(found: Range) -> tuple[int, int]:
    return found[0], found[2]


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
