"""The VAE of the demo pair: 128x128 pictures to [4, 32, 32] latents and back.

It is trained with noise on its latents: a transformer's latents are never exact, and this way the decoder draws clean
edges from them all the same. So clean edges say nothing of how good a transformer is; attributes do (`judge.py`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from hybridstitch.evaluation.world.scenes import render, sample_scene
from training import workers
from training.loop import Budget, Optimization, autocast, train

OPTIMIZATION = Optimization(rate=1e-3, decay=1e-4, average=0.998)


@dataclass(frozen=True)
class VaeSettings:
    channels: tuple[int, ...] = (16, 48, 64)
    latent_channels: int = 4
    batch: int = 8  # pictures a step
    crop: int = 64  # pictures of 128 give two crops of this at first: more variety a minute
    whole_after: float = 0.75  # share of the budget after which whole pictures are seen
    noise: float = 0.45  # on the latents, at most, in their standard deviations
    kl_weight: float = 1e-4


def build(settings: VaeSettings) -> AutoencoderKL:
    blocks = len(settings.channels)
    shape: dict[str, Any] = {  # its hints name tuples of one
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "block_out_channels": settings.channels,
    }
    return AutoencoderKL(
        **shape,
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=8,
        sample_size=128,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        force_upcast=False,
    )


class Autoencoding(nn.Module):
    """Pictures in, reconstruction loss out."""

    def __init__(self, vae: AutoencoderKL, settings: VaeSettings) -> None:
        super().__init__()
        self.vae, self.settings = vae, settings

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3, H, W], values -1 to 1. Returns a scalar."""
        mean, log_variance = self.vae.encoder(pictures).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        noise = self.settings.noise * torch.rand(len(mean), 1, 1, 1, device=mean.device) ** 1.5
        latents = latents + noise * mean.detach().std() * torch.randn_like(mean)
        error = self.vae.decoder(latents).float() - pictures
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        pixels = error.abs().mean() + 1.5 * (error**2).mean()
        return pixels + 0.25 * edges + self.settings.kl_weight * divergence


def train_vae(
    folder: Path, vae: AutoencoderKL, pictures: int, seed: int, device: torch.device, settings: VaeSettings
) -> None:
    """Train `vae` on that many pictures, set scaling and shift from the latents seen, save to folder/vae."""
    torch.manual_seed(seed)
    module = Autoencoding(vae, settings).to(device, memory_format=torch.channels_last)  # pyright: ignore

    def loss_of(draw: int, progress: float) -> Tensor:
        first = (seed << 40) + draw * settings.batch
        scenes = [sample_scene(first + index) for index in range(settings.batch)]
        drawn = 2 * render(scenes, device=device) - 1
        if progress < settings.whole_after:
            drawn = random_crops(drawn, settings.crop, first)
        with autocast(device):
            return module(drawn.contiguous(memory_format=torch.channels_last))

    def quality() -> dict[str, float]:
        return {f"psnr_at_noise_{noise}": reconstruction_quality(vae, 48, noise) for noise in (0.0, 0.2, 0.4)}

    train(folder, module, loss_of, Budget(pictures, settings.batch), OPTIMIZATION, quality)
    seen = [sample_scene((seed << 40) + index) for index in range(256)]
    latents = torch.cat([encode(vae, seen[at : at + 32]) for at in range(0, len(seen), 32)])
    vae.register_to_config(
        scaling_factor=round(1 / float(latents.std()), 4), shift_factor=round(float(latents.mean()), 4)
    )
    with workers.first_alone() as first:
        if first:
            vae.save_pretrained(folder / "vae")


@torch.no_grad()
def encode(vae: AutoencoderKL, scenes: list, size: int = 128) -> Tensor:
    """The raw latents of scenes, [len(scenes), 4, size / 4, size / 4], before shift and scale."""
    device = next(vae.parameters()).device
    with autocast(device):
        return vae.encoder(2 * render(scenes, size, device) - 1).float().chunk(2, dim=1)[0]


@torch.no_grad()
def reconstruction_quality(vae: AutoencoderKL, count: int = 128, noise: float = 0.0) -> float:
    """Mean PSNR in dB over held-out scenes, with `noise` standard deviations of noise on the latents."""
    device = next(vae.parameters()).device
    generator = torch.Generator().manual_seed(0)
    errors = []
    for first in range(0, count, 16):
        scenes = [sample_scene(index, held_out_only=True) for index in range(first, min(first + 16, count))]
        pictures = render(scenes, device=device)
        mean = vae.encoder(2 * pictures - 1).chunk(2, dim=1)[0]
        mean = mean + noise * mean.std() * torch.randn(mean.shape, generator=generator).to(device)
        decoded = (vae.decoder(mean) / 2 + 0.5).clamp(0, 1)
        errors.append(F.mse_loss(decoded, pictures, reduction="none").flatten(1).mean(1))
    return float((-10 * torch.log10(torch.cat(errors))).mean())


def random_crops(pictures: Tensor, size: int, seed: int) -> Tensor:
    """Two crops of each picture, [2 B, 3, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, pictures.shape[-1] - size + 1, (2 * len(pictures), 2), generator=generator).tolist()
    places = zip(pictures.repeat_interleave(2, dim=0), corners, strict=True)
    return torch.stack([picture[:, top : top + size, left : left + size] for picture, (top, left) in places])
