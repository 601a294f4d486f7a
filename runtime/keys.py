"""The large model's keys and values: where a full call leaves them, and the part that a mask freezes."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import doubled
from hybridstitch.method.masks import Mask


class KeyValueCache:
    """Buffers for one pair, batch and size, allocated once.

    One tensor per attention: stacked, they pass TensorRT's limit of 2^31 values at two 1024x1024 images.
    With guidance the batch here is the doubled one; the mask is the images', the same for both halves.
    """

    def __init__(
        self, geometry: Geometry, batch: int, tokens: int, guidance: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shape = (batch, geometry.heads, tokens, geometry.head_dim)
        self._guidance = guidance
        pairs = [f"{kind}.{index}" for index in range(geometry.attentions) for kind in ("key", "value")]
        self.fresh = {name: torch.empty(self._shape, dtype=dtype, device=device) for name in pairs}
        self._space: dict[str, Tensor] = {}
        self.frozen = self._frozen(0)

    def freeze(self, mask: Mask) -> None:
        """Gather the frozen tokens of every attention, [B, heads, F, head_dim]."""
        self.frozen = self._frozen(mask.frozen.shape[1])
        index = doubled(mask.frozen, self._guidance)[:, None, :, None].expand(self.frozen["frozen_key.0"].shape)
        for name, fresh in self.fresh.items():
            torch.gather(fresh, 2, index, out=self.frozen[f"frozen_{name}"])

    def _frozen(self, count: int) -> dict[str, Tensor]:
        """Buffers for `count` frozen tokens; those of the last count are used again."""
        batch, heads, _, head_dim = self._shape
        shape = (batch, heads, count, head_dim)
        if not self._space or next(iter(self._space.values())).shape != shape:
            self._space = {f"frozen_{name}": fresh.new_empty(shape) for name, fresh in self.fresh.items()}
        return self._space

    @property
    def none_frozen(self) -> dict[str, Tensor]:
        """What a full run takes: no frozen tokens."""
        return {f"frozen_{name}": fresh[:, :, :0] for name, fresh in self.fresh.items()}
