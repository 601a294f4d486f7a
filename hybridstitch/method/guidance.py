"""Classifier-free guidance: the batch is doubled, negative prompts first, and its two halves are combined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_guided(scale: float) -> bool:
    """Whether a scale needs the negative half at all; up to 1 it does not, as in diffusers."""
    return scale > 1


def halves(scale: float) -> int:
    """How many rows an image has in a batch: a negative and a positive one when guided, else one."""
    return 2 if is_guided(scale) else 1


def guide(velocities: Sequence[Tensor], scale: Tensor, out: Tensor) -> None:
    """Velocities [B, M, W] into out [B, M, W] in float32: of a negative and a positive one
    negative + scale * (positive - negative), a single one as it is.

    scale: [B, 1, 1], of each image. The same formula for every token, so that guiding before or after the stitch is the
    same thing.
    """
    if len(velocities) == 1:
        out.copy_(velocities[0])
    else:
        negative, positive = velocities
        torch.lerp(negative.float(), positive.float(), scale, out=out)
