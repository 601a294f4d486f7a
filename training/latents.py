"""What the transformers are trained on: latents, captions and geometry of many pictures, computed once."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from hybridstitch.evaluation.world.scenes import caption, sample_scene
from training import workers
from training.geometry import geometry
from training.vae import encode

SHARD = 2048  # pictures; what a kill can lose


@dataclass(frozen=True)
class LatentCache:
    """latents [count, 4, S / 4, S / 4] in float16, shifted and scaled as diffusion wants them; one caption each;
    geometry [count, tokens, 16] in float16 (`training/geometry.py`)."""

    latents: Tensor
    geometry: Tensor
    captions: list[str]

    def rows(self, draw: int, batch: int, seed: int) -> Tensor:
        """Indices [batch] of the pictures of a draw: each pass goes through all of them in a new order."""
        count = len(self.captions)
        batch = min(batch, count)
        epoch, place = divmod(draw, count // batch)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(1000 * seed + epoch))
        return order[place * batch : (place + 1) * batch]


def fill_cache(
    folder: Path, vae: AutoencoderKL, count: int, picture: int, seed: int, held_out: bool = False
) -> LatentCache:
    """Encode `count` pictures of the training world, or of what is held out from it, going on from the shards that are
    there already. Several processes share the work."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = "held-out" if held_out else "training"
    parts = [(folder / f"{kind}-{picture}-{first}.pt", first) for first in range(0, count, SHARD)]
    mine = parts[workers.rank() :: workers.count()]
    for path, first in tqdm(mine, desc=f"latents {picture}", unit=f"x{SHARD} pictures", mininterval=10):
        length = min(SHARD, count - first)
        if not path.exists() or len(torch.load(path, weights_only=True, mmap=True)["captions"]) < length:
            numbers = range(first, first + length)
            shard = _shard(vae, [sample_scene((seed << 40) + number, held_out) for number in numbers], picture)
            torch.save(shard, path.with_suffix(".partial"))
            os.replace(path.with_suffix(".partial"), path)
    workers.wait()
    shards = [torch.load(path, weights_only=True) for path, _ in parts]
    return LatentCache(
        torch.cat([shard["latents"] for shard in shards])[:count],
        torch.cat([shard["geometry"] for shard in shards])[:count],
        [text for shard in shards for text in shard["captions"]][:count],
    )


def _shard(vae: AutoencoderKL, scenes: list, picture: int) -> dict:
    latents = torch.cat([encode(vae, scenes[at : at + 32], picture) for at in range(0, len(scenes), 32)])
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor  # pyright: ignore
    return {
        "latents": latents.to("cpu", torch.float16),
        "geometry": geometry(scenes, picture // 8).half(),
        "captions": [caption(scene) for scene in scenes],
    }
