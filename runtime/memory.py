"""The device memory that a run takes, told from manifests alone: no plan is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from hybridstitch.engines.backends import find_backend
from hybridstitch.engines.lengths import full_lengths
from hybridstitch.engines.profiles import resolve
from hybridstitch.engines.spare import spare_bytes
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import is_guided
from hybridstitch.method.masks import masked_count
from hybridstitch.method.plan import Plan
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import Recipe

_STATE_TENSORS = 8  # of the sampler, float32: x, velocity, two estimates, the residual and its sigma, two sketches


@dataclass(frozen=True)
class Memory:
    """Bytes of a run.

    weights: of all engines. keys_values: the large model's, of all tokens, and the frozen part; of a TensorRT plan also
    those that a call does not want. latents: the sampler's state, positions, text, and the engines' inputs and outputs.
    scratch: an estimate of the activations of what runs at once: both transformers, or the decoder.
    """

    weights: int
    keys_values: int
    latents: int
    scratch: int

    @property
    def total(self) -> int:
        return self.weights + self.keys_values + self.latents + self.scratch

    def as_dict(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def predict(manifests: Mapping[str, Manifest], recipe: Recipe, plan: Plan, size: Size, batch: int) -> Memory:
    """The memory of one batch of pictures.

    Args:
        manifests: of the built engines, by component.
        size, batch: of the recipe: the scratch of others is not known and counts as none.

    Raises:
        HybridStitchError: a size that the model cannot draw.
    """
    large, small = manifests["large"], manifests["small"]
    geometry, other = large.geometry, small.geometry
    assert geometry is not None
    assert other is not None
    rows = batch * (2 if is_guided(plan.guidance) else 1)
    tokens = geometry.tokens(size)
    masked = masked_count(tokens, plan.mask_ratio, recipe.profiles.token_bucket)
    item = getattr(torch, large.dtype).itemsize

    def scratch(component: str) -> int:
        lengths = full_lengths(manifests[component].inputs, geometry, size, batch)
        return next((known.bytes for known in manifests[component].scratch if known.lengths == lengths), 0)

    return Memory(
        weights=sum(weight_bytes(manifest) for manifest in manifests.values()),
        keys_values=(_keys_values(geometry, rows, tokens, masked, item) if plan.has_hybrid else 0)
        + _unwanted(large, rows, masked if plan.has_hybrid else tokens if _runs_large(plan) else 0),
        latents=_latents(geometry, other, rows, batch, tokens, masked, item),
        scratch=max(scratch("large") + scratch("small"), scratch("vae_decoder")),
    )


def weight_bytes(manifest: Manifest) -> int:
    """Of the files that hold them, or, for a plan made of the checkpoint itself, of the checkpoint's tensors."""
    return sum(file.bytes for role, file in manifest.files.items() if role != "position") or manifest.weight_bytes


def _keys_values(geometry: Geometry, rows: int, tokens: int, masked: int, item: int) -> int:
    """A key and a value per attention: [rows, heads, N, head_dim] fresh, and N-M of them frozen."""
    return 2 * geometry.attentions * rows * (2 * tokens - masked) * geometry.width * item


def _unwanted(large: Manifest, rows: int, tokens: int) -> int:
    """Of a call on `tokens` tokens that wants the velocity alone: what a plan writes nevertheless."""
    if not find_backend(large.backend).is_tensorrt or not tokens:
        return 0
    lengths = {"B": rows, "M": tokens}
    sizes = {
        name: math.prod(resolve(spec.dims, lengths)) * getattr(torch, spec.dtype).itemsize
        for name, spec in large.outputs.items()
        if name != "velocity"
    }
    return sum(spare_bytes(sizes).values())


def _runs_large(plan: Plan) -> bool:
    return any(plan.schedule.runs_full(step) for step in range(plan.schedule.steps))


def _latents(geometry: Geometry, small: Geometry, rows: int, batch: int, tokens: int, masked: int, item: int) -> int:
    positions = rows * item * (tokens * (geometry.width + small.width) + masked * geometry.width)
    text = rows * item * (geometry.text_tokens * geometry.text_width + geometry.pooled_width)
    engine_sides = 4 * rows * tokens * geometry.token_width * item  # tokens in and velocity out, of both models
    state = _STATE_TENSORS * batch * tokens * geometry.token_width * 4
    return positions + text + engine_sides + state
