"""What an engine takes and gives: its tensors, each with a dtype and dimensions."""

from __future__ import annotations

from dataclasses import dataclass

Dimension = int | str
"""A fixed length, or the name of a dynamic one: B rows of the batch, M computed tokens, F frozen tokens, ..."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of an engine. dtype is torch's name of it; a dynamic dimension is a name."""

    dtype: str
    dims: tuple[Dimension, ...]
