"""Classifier-free guidance: the batch is doubled, negative prompts first, and its two halves are combined."""

from __future__ import annotations

import torch
from torch import Tensor


def is_guided(scale: float) -> bool:
    """Whether a scale needs the negative half at all; up to 1 it does not, as in diffusers."""
    return scale > 1


def doubled(tensor: Tensor, scale: float) -> Tensor:
    """[B, ...] -> [2B, ...] when guided, the same rows for both halves."""
    return torch.cat([tensor, tensor]) if is_guided(scale) else tensor


def guided(velocity: Tensor, scale: float) -> Tensor:
    """[2B, M, W] -> [B, M, W]: negative + scale * (positive - negative).

    The same formula for every token, so that guiding before or after the stitch is the same thing.
    """
    if not is_guided(scale):
        return velocity
    negative, positive = velocity.chunk(2)
    return torch.lerp(negative, positive, scale)
