"""Latents and captions of many training pictures, computed once and kept in a file."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from training.vae import encode
from training.world import caption, sample_scene

SHARD = 2048  # pictures; what a kill can lose


@dataclass(frozen=True)
class LatentCache:
    """latents [count, 4, S / 4, S / 4] in float16, shifted and scaled as diffusion wants them; one caption each."""

    latents: Tensor
    captions: list[str]

    def rows(self, step: int, batch: int, seed: int) -> Tensor:
        """Indices [batch] of the pictures of a step: each pass goes through all of them in a new order."""
        count = len(self.captions)
        batch = min(batch, count)
        epoch, place = divmod(step, count // batch)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(1000 * seed + epoch))
        return order[place * batch : (place + 1) * batch]


def fill_cache(folder: Path, vae: AutoencoderKL, count: int, picture: int, seed: int) -> LatentCache:
    """Encode `count` training pictures, going on from the shards that are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    latents, captions = [], []
    for first in tqdm(range(0, count, SHARD), desc=f"latents {picture}", mininterval=10):
        path = folder / f"{picture}-{first}.pt"
        scenes = [sample_scene((seed << 40) + index) for index in range(first, min(first + SHARD, count))]
        if path.exists():
            shard = torch.load(path, weights_only=True)
        else:
            parts = [encode(vae, scenes[at : at + 32], picture) for at in range(0, len(scenes), 32)]
            shard = (torch.cat(parts) - vae.config.shift_factor) * vae.config.scaling_factor  # pyright: ignore
            shard = shard.to("cpu", torch.float16)
            torch.save(shard, path.with_suffix(".partial"))
            os.replace(path.with_suffix(".partial"), path)
        latents.append(shard[: len(scenes)])
        captions.extend(caption(scene) for scene in scenes)
    return LatentCache(torch.cat(latents), captions)
