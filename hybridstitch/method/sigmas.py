"""The noise levels of a run, from the checkpoint's own scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import HybridStitchError


def load_scheduler(folder: Path) -> Any:
    """The FlowMatchEulerDiscreteScheduler of a checkpoint's `scheduler` folder.

    Raises:
        HybridStitchError: no scheduler there, or one of another kind: the sampler takes plain Euler steps.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler  # a slow import

    try:
        config: Any = FlowMatchEulerDiscreteScheduler.load_config(str(folder), local_files_only=True)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise HybridStitchError(f"no scheduler can be read from {folder}: {reason}") from None
    kind = config.get("_class_name")
    if kind != "FlowMatchEulerDiscreteScheduler":
        raise HybridStitchError(f"{folder} holds a {kind}; SD3 models are drawn with FlowMatchEulerDiscreteScheduler")
    if config.get("stochastic_sampling"):
        raise HybridStitchError(f"{folder} asks for stochastic sampling, which this runtime does not do")
    return FlowMatchEulerDiscreteScheduler.from_config(config)


def noise_levels(scheduler: Any, steps: int, tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sigmas [S+1] and timesteps [S], float32, for a picture of N image tokens.

    Source: StableDiffusion3Pipeline.__call__ and `calculate_shift` in diffusers.
    """
    config, shift = scheduler.config, {}
    if config.get("use_dynamic_shifting"):
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.16)
        shift = {"mu": base + (tokens - low) * (top - base) / (high - low)}
    scheduler.set_timesteps(steps, device=device, **shift)
    return scheduler.sigmas.to(device, torch.float32), scheduler.timesteps.to(device, torch.float32)
