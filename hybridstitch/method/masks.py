"""Which tokens the large model still computes: the hardest M of each image, chosen on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """Two index tensors that together hold every image token once, for each image of the batch.

    computed [B, M]: the tokens that the large model computes. frozen [B, N-M]: the ones that it sees only as
    the keys and values of its last full step.
    """

    computed: Tensor
    frozen: Tensor


Choose = Callable[[Tensor, int], Mask]
"""What makes a mask of scores [B, N] and the number of tokens to compute."""


def token_mean(difference: Tensor) -> Tensor:
    """Mean absolute value of each token: [B, N, W] -> [B, N]."""
    return difference.abs().mean(dim=-1)


def hardest(scores: Tensor, count: int) -> Mask:
    """The `count` tokens of highest score [B, N] of each image. No host synchronisation."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    return Mask(computed=order[:, :count].contiguous(), frozen=order[:, count:].contiguous())


def relative_change(now: Tensor, before: Tensor) -> Tensor:
    """Relative L1 change between two estimates, as a scalar tensor."""
    return (now - before).abs().sum() / before.abs().sum()
