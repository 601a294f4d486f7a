"""What a graph, and the engine built from it, takes and gives: its tensors, each with a dtype and dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Dimension = int | str
"""A fixed length, or the name of a dynamic one: B rows of the batch, M computed tokens, F frozen tokens, ..."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph. dtype is torch's name of it; a dynamic dimension is a name."""

    dtype: str
    dims: tuple[Dimension, ...]

    @classmethod
    def of(cls, dtype: torch.dtype, *dims: Dimension) -> TensorSpec:
        return cls(str(dtype).removeprefix("torch."), dims)
