"""The VAE of the demo pair: 128x128 pictures to [4, 32, 32] latents and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from training import workers
from training.loop import Budget, Optimization, autocast, train
from training.world import render, sample_scene

OPTIMIZATION = Optimization(rate=2e-3, decay=1e-4, average=0.998)


@dataclass(frozen=True)
class VaeSettings:
    channels: tuple[int, ...] = (16, 48, 64)
    latent_channels: int = 4
    batch: int = 8  # crops a step; in the last part half as many whole pictures
    crop: int = 64  # pictures of 128 are cropped to this at first: more pictures a minute
    whole_after: float = 0.75  # share of the budget after which whole pictures are seen
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
        error = self.vae.decoder(latents).float() - pictures
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        pixels = error.abs().mean() + 5 * (error**2).mean()
        return pixels + 0.25 * edges + self.settings.kl_weight * divergence


def train_vae(folder: Path, budget: Budget, seed: int, device: torch.device, settings: VaeSettings) -> AutoencoderKL:
    """Train, set scaling and shift from the latents seen, save to folder/vae and return the VAE."""
    torch.manual_seed(seed)
    vae = build(settings)
    module = Autoencoding(vae, settings).to(device)

    def loss_of(step: int, progress: float) -> Tensor:
        whole = progress > settings.whole_after
        count = settings.batch // 2 if whole else settings.batch
        first = (seed << 40) + step * settings.batch
        pictures = 2 * render([sample_scene(first + index) for index in range(count)], device=device) - 1
        if not whole:
            pictures = _random_crops(pictures, settings.crop, first)
        with autocast(device):
            return module(pictures)

    train(folder, module, loss_of, budget, OPTIMIZATION)
    latents = encode(vae, [sample_scene((seed << 40) + index) for index in range(256)])
    vae.register_to_config(
        scaling_factor=round(1 / float(latents.std()), 4), shift_factor=round(float(latents.mean()), 4)
    )
    with workers.first_alone() as first:
        if first:
            vae.save_pretrained(folder / "vae")
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, scenes: list, size: int = 128) -> Tensor:
    """The raw latents of scenes, [len(scenes), 4, size / 4, size / 4], before shift and scale."""
    device = next(vae.parameters()).device
    with autocast(device):
        return vae.encoder(2 * render(scenes, size, device) - 1).float().chunk(2, dim=1)[0]


@torch.no_grad()
def reconstruction_quality(vae: AutoencoderKL, count: int = 128) -> float:
    """Mean PSNR in dB over held-out scenes."""
    device = next(vae.parameters()).device
    errors = []
    for first in range(0, count, 16):
        scenes = [sample_scene(index, held_out_only=True) for index in range(first, first + 16)]
        pictures = render(scenes, device=device)
        mean = vae.encoder(2 * pictures - 1).chunk(2, dim=1)[0]
        decoded = (vae.decoder(mean) / 2 + 0.5).clamp(0, 1)
        errors.append(F.mse_loss(decoded, pictures, reduction="none").flatten(1).mean(1))
    return float((-10 * torch.log10(torch.cat(errors))).mean())


def _random_crops(pictures: Tensor, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, pictures.shape[-1] - size + 1, (len(pictures), 2), generator=generator).tolist()
    crops = [
        picture[:, top : top + size, left : left + size] for picture, (top, left) in zip(pictures, corners, strict=True)
    ]
    return torch.stack(crops)
