"""The lengths of an engine's dynamic dimensions in a run."""

from __future__ import annotations

from collections.abc import Mapping

from hybridstitch.method.geometry import Geometry
from hybridstitch.method.size import Size
from hybridstitch.models.tensors import TensorSpec


def full_lengths(inputs: Mapping[str, TensorSpec], geometry: Geometry, size: Size, batch: int) -> dict[str, int]:
    """The lengths of a component's dynamic dimensions in a guided full run of `batch` pictures."""
    rows, columns = geometry.grid(size)
    decodes = "latents" in inputs  # pictures are decoded without their negative half
    lengths = {
        "B": batch if decodes else 2 * batch,
        "M": rows * columns,
        "F": 0,
        "T": geometry.text_tokens,
        "h": rows * geometry.patch_size,
        "w": columns * geometry.patch_size,
    }
    dynamic = {dim for spec in inputs.values() for dim in spec.dims if isinstance(dim, str)}
    return {symbol: length for symbol, length in lengths.items() if symbol in dynamic}
