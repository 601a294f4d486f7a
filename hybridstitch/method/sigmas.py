"""The noise levels of a run, from the checkpoint's own scheduler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def noise_levels(scheduler: Any, steps: int, tokens: int, device: torch.device) -> Tensor:
    """[S, 4], float32, see `levels`: of each step, for a picture of N image tokens.

    Source: StableDiffusion3Pipeline.__call__ and `calculate_shift` in diffusers.
    """
    config, shift = scheduler.config, {}
    if config.get("use_dynamic_shifting"):
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.16)
        shift = {"mu": base + (tokens - low) * (top - base) / (high - low)}
    scheduler.set_timesteps(steps, device=device, **shift)
    return levels(scheduler.sigmas.to(device, torch.float32), scheduler.timesteps.to(device, torch.float32))


def levels(sigmas: Tensor, timesteps: Tensor) -> Tensor:
    """Sigmas [S+1] and timesteps [S] as one table [S, 4]: sigma, the next step's sigma, the (negative) stride from the
    one to the other, and the timestep."""
    return torch.stack([sigmas[:-1], sigmas[1:], sigmas.diff(), timesteps], dim=1)
