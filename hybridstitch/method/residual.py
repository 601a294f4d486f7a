"""The carried residual: what the large model would have added, where it is no longer computed.

r = v_large - v_small per token, with the sigma at which it was measured. Ours, beyond the paper: wherever only the
small model runs, its velocity becomes v_small + r * (sigma / sigma_r)^q.
"""

from __future__ import annotations

import torch

from .state import State
from .tokens import gather, stitch


def measure(state: State) -> None:
    """Measure on all tokens, after a full step: its velocity and the small model's sketch at the same sigma."""
    torch.sub(state.velocity, state.sketch, out=state.difference)
    state.measured_at.copy_(state.sigma.expand_as(state.measured_at))


def renew(state: State) -> None:
    """Measure again on the masked tokens, in a hybrid step. It counts where these tokens are no longer computed: the
    steps in between overwrite what would be corrected there."""
    stitch(state.difference, state.masked_velocity - gather(state.sketch, state.computed), state.computed)
    stitch(state.measured_at, state.sigma.expand(*state.computed.shape, 1), state.computed)


def correct(state: State, exponent: float | None) -> None:
    """velocity: the small model's sketch with what the large one last said added, faded by sigma.

    exponent: of all images, where it is the same one; None: the state's, image by image. To the last bit the same.
    """
    ratio = state.sigma / state.measured_at
    square = ratio * ratio
    if exponent == 2:
        fade = square
    elif exponent == 3:
        fade = square * ratio
    else:  # products here too, for the images that have these exponents: pow of a tensor rounds otherwise
        every = state.exponent
        fade = torch.where(every == 2, square, torch.where(every == 3, square * ratio, ratio**every))
    torch.addcmul(state.sketch, state.difference, fade, out=state.velocity)
