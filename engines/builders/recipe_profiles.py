"""The profiles that a component is built with: what follows from a recipe's sizes, batches and mask ratios.

The large model has one for the full run (no frozen tokens) and one for each bucket of mask ratios; with several picture
sizes a range spans them all, or each size has profiles of its own (`per_size`), in one plan or in a plan for each size.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry, masked_count
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import Recipe

from ..profiles import NOUNS, SIZED, Profile, Range, resolve
from .exported_graph import Graph

LARGEST_VOLUME = 2**31 - 1  # TensorRT counts a tensor's elements in 32 bits


def profiles_of_plans(
    graph: Graph, recipe: Recipe, *, geometry: Geometry, static_batch: bool = False, split: bool = False
) -> dict[str, tuple[Profile, ...]]:
    """The profiles of each plan of one component, by the plan's part: its size, or "" where one plan holds them all.

    Args:
        geometry: the large transformer's, which text encoders and VAE must fit.
        static_batch: one profile for each batch that the recipe names, instead of a range that holds them all.
        split: a plan for each size, where the component's lengths follow from the size.

    Raises:
        HybridStitchError: a dynamic dimension that is none of B, M, F, T, h, w; a size that the model cannot
            draw; a tensor of more elements than an engine can count.
    """
    symbols = {dim for spec in graph.inputs.values() for dim in spec.dims if isinstance(dim, str)}
    if unknown := sorted(symbols - NOUNS.keys()):
        raise HybridStitchError(
            f"{graph.folder}: dynamic dimension {unknown[0]!r} is none of {', '.join(NOUNS)}; export again"
        )
    sized = bool(symbols & SIZED)
    by_ranges: dict[tuple, tuple[str, Profile]] = {}
    for size_name, sizes in _size_groups(recipe):
        boxes = _token_boxes(recipe, geometry, sizes, frozen="F" in symbols) if "M" in symbols else {"full": {}}
        fixed = {"T": _only(geometry.text_tokens), **_latent_ranges(recipe, geometry, sizes)}
        for name, box in boxes.items():
            for suffix, batch in _batch_ranges(recipe, graph.component, static_batch):
                ranges = {**fixed, **box, "B": batch}
                ranges = {symbol: ranges[symbol] for symbol in NOUNS if symbol in symbols}
                by_size = f"-{size_name}" if sized and size_name else ""
                part = size_name if sized and split else ""
                by_ranges.setdefault(tuple(ranges.items()), (part, Profile(name + by_size + suffix, ranges)))
    plans: dict[str, tuple[Profile, ...]] = {}
    for part, profile in by_ranges.values():
        _check_volumes(graph, profile)
        plans[part] = (*plans.get(part, ()), profile)
    return plans


def _size_groups(recipe: Recipe) -> list[tuple[str, tuple[Size, ...]]]:
    """What a profile's name says of its sizes, and the sizes: of all, or of each by itself. Two sizes of equally many
    tokens make the same profiles, of which the first stays."""
    profiles = recipe.profiles
    each = profiles.per_size or profiles.split
    return [(str(size), (size,)) for size in profiles.sizes] if each else [("", profiles.sizes)]


def _token_boxes(
    recipe: Recipe, geometry: Geometry, sizes: Sequence[Size], *, frozen: bool
) -> dict[str, dict[str, Range]]:
    """Ranges of M and F: the full run, then the buckets of mask ratios, smallest first."""
    profiles = recipe.profiles
    counts = [geometry.tokens(size) for size in sizes]
    typical = geometry.tokens(recipe.defaults.size)
    typical = typical if typical in counts else counts[0]
    boxes = {"full": {"M": (min(counts), typical, max(counts)), "F": _only(0)}}
    if not frozen:
        return boxes
    previous = 0.0
    for ratio in (*sorted(set(profiles.mask_ratios)), 1.0):
        name = f"masked-{round(ratio * 100)}" if ratio < 1 else "masked-over"
        typical_ratio = ratio if ratio < 1 else (previous + 1) / 2
        spans = [span for count in counts if (span := _bucket(count, previous, ratio, profiles.token_bucket))]
        previous = ratio
        if not spans:
            continue
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        frozen_low, frozen_high = min(span[2] for span in spans), max(span[3] for span in spans)
        aim = min(max(masked_count(typical, typical_ratio, profiles.token_bucket), low), high)
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


def _latent_ranges(recipe: Recipe, geometry: Geometry, sizes: Sequence[Size]) -> dict[str, Range]:
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
