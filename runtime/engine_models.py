"""The pair as the sampler sees it: two engines, their buffers, and guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import doubled, guided
from hybridstitch.method.masks import Mask
from hybridstitch.method.tokens import gather

from .keys import KeyValueCache

Call = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]]
Around = Callable[[str], AbstractContextManager[object]]


class EngineModels:
    """`hybridstitch.method.sampler.Models` on two engines, for one batch of prompts at one size.

    Args:
        large, small: engines of the token-space transformers (docs/engines.md has the tensors).
        geometry: of the large model; the small one may differ in width and layers only.
        large_position, small_position: [N, D] of each model, cropped to the size.
        text, pooled: [B', T, E] and [B', P], negative prompts first when guided (B' = 2B).
        guidance: the scale.
        keep_keys: whether there may be a hybrid stage.
        around: a context manager entered for each engine call, with the engine's name (timing).
        watch: called with the engine's name and each velocity as it came out (NaN checks).
    """

    def __init__(
        self,
        large: Call,
        small: Call,
        *,
        geometry: Geometry,
        large_position: Tensor,
        small_position: Tensor,
        text: Tensor,
        pooled: Tensor,
        guidance: float,
        keep_keys: bool,
        around: Around = nullcontext,
        watch: Callable[[str, Tensor], None] | None = None,
    ) -> None:
        self._engines = {"large": large, "small": small}
        self._around, self._watch, self._guidance = around, watch, guidance
        batch, device = text.shape[0], text.device
        self._timestep = torch.empty(batch, dtype=torch.float32, device=device)
        self._fixed = {"text": text, "pooled": pooled, "timestep": self._timestep}
        self._position = {
            "large": large_position.expand(batch, -1, -1).contiguous(),
            "small": small_position.expand(batch, -1, -1).contiguous(),
        }
        tokens = large_position.shape[0]
        self._dtype = text.dtype
        full = (batch, tokens, geometry.token_width)
        self._velocity = {name: torch.empty(full, dtype=text.dtype, device=device) for name in self._engines}
        self._keys = KeyValueCache(geometry, batch, tokens if keep_keys else 0, guidance, text.dtype, device)
        self._keep_keys = keep_keys
        self._masked_position: Tensor | None = None
        self._masked_velocity: Tensor | None = None

    def large(self, x: Tensor, timestep: Tensor) -> Tensor:
        kept = self._keys.fresh if self._keep_keys else {}
        return self._run("large", x, timestep, self._position["large"], self._keys.none_frozen, kept)

    def small(self, x: Tensor, timestep: Tensor) -> Tensor:
        return self._run("small", x, timestep, self._position["small"], {}, {})

    def freeze(self, mask: Mask) -> None:
        self._keys.freeze(mask)
        index = doubled(mask.computed, self._guidance)
        self._masked_position = gather(self._position["large"], index)
        self._masked_velocity = self._velocity["large"][:, : index.shape[1]].contiguous()

    def hybrid(self, x: Tensor, timestep: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        rows = gather(x, mask.computed)
        if rows.shape[1] == 0:
            return rows, self.small(x, timestep)
        assert self._masked_position is not None
        hard = self._run("large", rows, timestep, self._masked_position, self._keys.frozen, {}, self._masked_velocity)
        return hard, self.small(x, timestep)

    def _run(
        self,
        name: str,
        x: Tensor,
        timestep: Tensor,
        position: Tensor,
        frozen: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        velocity: Tensor | None = None,
    ) -> Tensor:
        """One engine call on x [B, M, W] -> its guided velocity [B, M, W] in float32."""
        self._timestep.copy_(timestep.expand_as(self._timestep))
        tokens = doubled(x.to(self._dtype), self._guidance)
        velocity = self._velocity[name] if velocity is None else velocity
        inputs = {"tokens": tokens, "position": position, **self._fixed, **frozen}
        with self._around(name):
            self._engines[name](inputs, {"velocity": velocity, **kept})
        if self._watch is not None:
            self._watch(name, velocity)
        return guided(velocity.float(), self._guidance)
