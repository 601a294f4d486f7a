"""Inputs as a run makes them: text that the encoders wrote, latents between noise and picture, real frozen keys."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import Engine, Session, run_once
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.tokens import gather, patchify
from hybridstitch.models.family import Family

BLOTCH = 8  # latent cells from one independent value to the next, in latents that look like a picture's
GRAIN = 0.3  # standard deviation of what is independent in every cell


@dataclass(frozen=True)
class Material:
    """What the inputs of a pair's engines are made of, on the engines' device but for the positions.

    family: of the checkpoints. text [R, T, E] and pooled [R, P]: of R prompts. input_ids: token ids [R, L] by text
    encoder. positions: position table [S, S, D] by transformer, on the CPU. sigmas, timesteps: noise levels of a run,
    [S], falling.
    channels: C, of the latents. seed: the same inputs come of the same seed.
    """

    family: Family
    device: torch.device
    channels: int
    seed: int
    text: Tensor
    pooled: Tensor
    input_ids: Mapping[str, Tensor]
    positions: Mapping[str, Tensor]
    sigmas: Tensor
    timesteps: Tensor


def inputs_for(engine: Engine, lengths: Mapping[str, int], material: Material, reference: Session) -> dict[str, Tensor]:
    """The inputs of one call.

    Args:
        lengths: of the dynamic dimensions.
        reference: runs the full call that leaves the frozen keys and values; it must take any lengths.
    """
    component = engine.manifest.component
    generator = torch.Generator().manual_seed(_seed(material.seed, component, lengths))
    if component == "vae_decoder":
        shape = (lengths["B"], material.channels, lengths["h"], lengths["w"])
        return {"latents": picture_like(shape, generator).to(material.device, engine.dtype)}
    if component not in ("large", "small"):
        return {"input_ids": _rows(material.input_ids[component], lengths["B"], generator)}
    return _transformer_inputs(engine, lengths, material, reference, generator)


def picture_like(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    """[B, C, H, W] of unit variance: soft blotches and a little grain, which is what clean latents look like."""
    batch, channels, height, width = shape
    coarse = torch.randn(batch, channels, height // BLOTCH + 2, width // BLOTCH + 2, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    soft = soft / soft.std() * (1 - GRAIN**2) ** 0.5
    return soft + GRAIN * torch.randn(shape, generator=generator)


def _transformer_inputs(
    engine: Engine, lengths: Mapping[str, int], material: Material, reference: Session, generator: torch.Generator
) -> dict[str, Tensor]:
    """Each row of the batch is at a noise level of its own, so that rows cannot stand in for one another.

    With frozen tokens, their keys and values are those of a full call at the noise level before, as in a run. Which
    tokens are frozen is random, in each row.
    """
    geometry = engine.manifest.geometry
    assert geometry is not None
    batch, computed, frozen = lengths["B"], lengths["M"], lengths.get("F", 0)
    clean, noise = _clean_and_noise(geometry, batch, computed + frozen, generator)
    level = (torch.randint(len(material.sigmas), (1,), generator=generator) + torch.arange(batch)) % len(
        material.sigmas
    )
    rows = torch.randint(len(material.text), (1,), generator=generator) + torch.arange(batch)
    rows = (rows % len(material.text)).to(material.device)

    def at(levels: Tensor) -> dict[str, Tensor]:
        levels = levels.to(material.device)
        sigma = material.sigmas[levels][:, None, None]
        tokens = torch.lerp(clean.to(material.device), noise.to(material.device), sigma)
        return material.family.full_inputs(
            tokens.to(engine.dtype),
            material.timesteps[levels].float(),
            text=material.text[rows],
            pooled=material.pooled[rows],
            positions=material.positions[engine.manifest.component],
        )

    inputs = at(level)
    if "F" not in lengths:
        return inputs
    none = {
        name: torch.zeros(batch, geometry.heads, 0, geometry.head_dim, dtype=engine.dtype, device=material.device)
        for name, spec in engine.manifest.inputs.items()
        if "F" in spec.dims
    }
    if not frozen:
        return {**inputs, **none}
    before = run_once(reference, {**at((level - 1).clamp(min=0)), **none})
    order = torch.stack([torch.randperm(computed + frozen, generator=generator) for _ in range(batch)])
    order = order.to(material.device)
    of_tokens = [name for name, spec in engine.manifest.inputs.items() if "M" in spec.dims]
    return {
        **inputs,
        **{name: gather(inputs[name], order[:, :computed]) for name in of_tokens},
        **{name: _gather_heads(before[name.removeprefix("frozen_")], order[:, computed:]) for name in none},
    }


def _clean_and_noise(geometry: Geometry, batch: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens of clean latents and of noise, [B, count, p*p*C]: the first ones of a square picture."""
    side = math.ceil(math.sqrt(count)) * geometry.patch_size
    shape = (batch, geometry.latent_channels, side, side)
    drawn = (picture_like(shape, generator), torch.randn(shape, generator=generator))
    clean, noise = (patchify(latents, geometry.patch_size)[:, :count] for latents in drawn)
    return clean, noise


def _gather_heads(tensor: Tensor, index: Tensor) -> Tensor:
    """[B, heads, N, head_dim] at index [B, F] -> [B, heads, F, head_dim]."""
    return tensor.gather(2, index[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[3])).contiguous()


def _rows(tensor: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` rows from a random one on, beginning again at the end."""
    start = torch.randint(len(tensor), (1,), generator=generator)
    return tensor[((start + torch.arange(count)) % len(tensor)).to(tensor.device)]


def _seed(seed: int, component: str, lengths: Mapping[str, int]) -> int:
    """Inputs do not change when other cases come or go."""
    text = f"{seed} {component} {sorted(lengths.items())}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
