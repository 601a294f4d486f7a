"""The carried residual: what the large model would have added, where it is no longer computed.

r = v_large - v_small per token, with the sigma at which it was measured. Ours, beyond the paper: wherever only the
small model runs, its velocity becomes v_small + r * (sigma / sigma_r)^q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .state import State
from .tokens import gather, stitch


def measure(state: State) -> None:
    """Measure on all tokens, after a full step: its velocity and the small model's sketch at the same sigma."""
    torch.sub(state.velocity, state.sketch, out=state.difference)
    state.measured_at.copy_(state.sigma.expand_as(state.measured_at))


def renew(state: State) -> None:
    """Measure again on the masked tokens, in a hybrid step."""
    stitch(state.difference, state.hard - gather(state.sketch, state.computed), state.computed)
    stitch(state.measured_at, state.sigma.expand(*state.computed.shape, 1), state.computed)


def correct(state: State) -> None:
    """velocity: the small model's sketch with what the large one last said added, faded by sigma."""
    fade = _power(state.sigma / state.measured_at, state.exponent)
    torch.addcmul(state.sketch, state.difference, fade, out=state.velocity)


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    """base [B, N, 1] to the exponent [B, 1, 1] of each image. Squares and cubes are products, to the last bit what
    torch makes of a number as exponent, and pow of a tensor does not."""
    square = base * base
    return torch.where(exponent == 2, square, torch.where(exponent == 3, square * base, base**exponent))
