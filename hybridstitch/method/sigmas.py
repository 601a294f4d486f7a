"""The noise levels of a run, from the checkpoint's own scheduler."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import HybridStitchError

EARLY = 1.3
"""How much closer to each other the first steps on a grid are: 1 would be evenly spaced."""


def noise_levels(scheduler: Any, steps: int, tokens: int, device: torch.device, *, grid: int = 0) -> Tensor:
    """[S, 4], float32, see `levels`: of each step, for a picture of N image tokens.

    grid: take them from the levels of so many steps, as `grid_steps` says; 0: those of S steps, evenly spaced but for
    the checkpoint's shift. The scheduler stays as it was, so any number of threads may ask at once.

    Source: StableDiffusion3Pipeline.__call__ and `calculate_shift` in diffusers.

    Raises:
        HybridStitchError: the scheduler's noise levels for so many steps do not fall from one to the next.
    """
    sigmas, timesteps = (each.to(device) for each in _scheduled(scheduler, grid or steps, tokens))
    if grid:
        chosen = grid_steps(steps, grid)
        sigmas, timesteps = sigmas[[*chosen, grid]], timesteps[chosen]
    return levels(sigmas, timesteps)


def grid_steps(steps: int, grid: int) -> list[int]:
    """Which S of G steps are made: all of the first ones, ever fewer of the later ones; 0 is the first.

    What is left out is bridged with the velocity of the step before. A run of G steps begins as these do, so that fewer
    steps stay closer to its picture than evenly spaced ones: the first steps decide the composition. Ours, not the
    paper's.
    """
    chosen: list[int] = []
    for index in range(steps):
        ideal = round(grid * (index / steps) ** EARLY)
        least, most = chosen[-1] + 1 if chosen else 0, grid - steps + index
        chosen.append(min(max(ideal, least), most))
    return chosen


def _scheduled(scheduler: Any, steps: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Sigmas [S+1] and timesteps [S] of the checkpoint's scheduler, on the CPU."""
    config, shift = scheduler.config, {}
    if config.get("use_dynamic_shifting"):
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.16)
        shift = {"mu": base + (tokens - low) * (top - base) / (high - low)}
    own = copy.copy(scheduler)
    with np.errstate(divide="ignore", invalid="ignore"):  # told below
        own.set_timesteps(steps, device="cpu", **shift)
    sigmas, timesteps = own.sigmas.float(), own.timesteps.float()
    if not bool((sigmas.diff() < 0).all()):  # a NaN falls nowhere
        stands = ", ".join(f"{sigma:.4g}" for sigma in sigmas[:4].tolist())
        end = config.get("shift_terminal")
        hint = f"; shift_terminal {end} needs at least 2 steps and a value under 1" if end else ""
        raise HybridStitchError(
            f"the scheduler's noise levels for {steps} steps do not fall from one to the next: {stands}, ...{hint}"
        )
    return sigmas, timesteps


def levels(sigmas: Tensor, timesteps: Tensor) -> Tensor:
    """Sigmas [S+1] and timesteps [S] as one table [S, 4]: sigma, the next step's sigma, the (negative) stride from the
    one to the other, and the timestep."""
    return torch.stack([sigmas[:-1], sigmas[1:], sigmas.diff(), timesteps], dim=1)
