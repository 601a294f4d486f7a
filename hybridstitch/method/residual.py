"""The carried residual: what the large model would have added, where it is no longer computed."""

from __future__ import annotations

import torch
from torch import Tensor

from .masks import Mask
from .tokens import gather, stitch


class Residual:
    """r = v_large - v_small per token, with the sigma at which it was measured.

    Ours, beyond the paper: wherever only the small model runs, its velocity becomes
    v_small + r * (sigma / sigma_r)^q. With q = None nothing is measured or added: the paper's method.
    """

    def __init__(self, exponent: float | None) -> None:
        self.exponent = exponent
        self._difference: Tensor | None = None  # [B, N, W]
        self._sigma: Tensor | None = None  # [B, N, 1]

    @property
    def on(self) -> bool:
        return self.exponent is not None

    def measure(self, large: Tensor, small: Tensor, sigma: Tensor) -> None:
        """Measure on all tokens, at a full large step: two velocities [B, N, W] at one sigma (a scalar tensor)."""
        if self.on:
            self._difference = large - small
            self._sigma = sigma.expand(*large.shape[:2], 1).clone()

    def renew(self, large: Tensor, small: Tensor, sigma: Tensor, mask: Mask) -> None:
        """Measure again on the masked tokens: velocities [B, M, W] of the large, [B, N, W] of the small model."""
        if self._difference is None or self._sigma is None:
            return
        index = mask.computed
        self._difference = stitch(self._difference, large - gather(small, index), index)
        self._sigma = stitch(self._sigma, sigma.expand(*large.shape[:2], 1), index)

    def correct(self, small: Tensor, sigma: Tensor) -> Tensor:
        """The small model's velocity [B, N, W] with what the large one last said added, faded by sigma."""
        if self._difference is None or self._sigma is None or self.exponent is None:
            return small
        return torch.addcmul(small, self._difference, (sigma / self._sigma) ** self.exponent)
