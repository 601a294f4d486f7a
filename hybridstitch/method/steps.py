"""The kinds of step. Each works in place on a `State` and reads nothing but its tensors, the models and its own
specification, so that it can be captured in a CUDA graph: one for each specification and number of masked tokens."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from . import residual, trend
from .masks import Mask, token_mean
from .program import Kind, StepSpec
from .settings import Score
from .state import State
from .tokens import stitch


class Models(Protocol):
    """The pair, as the sampler sees it. Velocities are guided; they are written to `out`, in float32.

    x is [B, N, W], timestep a scalar tensor.
    """

    def large(self, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        """The large model on all tokens -> [B, N, W]; it leaves its image keys and values for `freeze`."""
        ...

    def small(self, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        """The small model on all tokens -> [B, N, W]."""
        ...

    def keep(self) -> None:
        """Keep the keys and values of the last full call while the next one is made; those that are frozen go."""
        ...

    def freeze(self, mask: Mask, moved: Tensor | None = None) -> None:
        """Fix the keys and values of the mask's frozen tokens, from the last full call.

        moved: by how many of their changes since the kept call they are moved on, a scalar; None: they are not.
        """
        ...

    def move(self, mask: Mask, ratio: Tensor) -> None:
        """Move the frozen keys and values on, to `ratio` times as far from those of the last full call."""
        ...

    def masked(self, x: Tensor, timestep: Tensor, mask: Mask, masked_velocity: Tensor) -> None:
        """The large model on the masked tokens -> masked_velocity [B, M, W]."""
        ...

    def hybrid(self, x: Tensor, timestep: Tensor, mask: Mask, masked_velocity: Tensor, sketch: Tensor) -> None:
        """Large on the masked tokens -> masked_velocity [B, M, W], and small on all -> sketch [B, N, W]; neither waits
        for the other's result."""
        ...


def full_step(models: Models, state: State, step: StepSpec, exponent: float | None) -> None:
    """The large model on every token."""
    if step.extrapolate:
        models.keep()
    models.large(state.x, state.timestep, state.velocity)
    if step.remember or step.correct:
        trend.follow(state, step)


def hybrid_step(models: Models, state: State, step: StepSpec, exponent: float | None) -> None:
    """The large model on the masked tokens, the small one on all: stitched."""
    models.hybrid(state.x, state.timestep, state.mask, state.masked_velocity, state.sketch)
    _sketched(state, step, exponent)
    stitch(state.velocity, state.masked_velocity, state.computed)


def held_step(models: Models, state: State, step: StepSpec, exponent: float | None) -> None:
    """The large model on the masked tokens; the others keep the velocity that they had, or move on. Ours, not the
    paper's."""
    if step.extrapolate:
        trend.move_on(state)
    if step.correct:
        trend.note_held(state)
    models.masked(state.x, state.timestep, state.mask, state.masked_velocity)
    stitch(state.velocity, state.masked_velocity, state.computed)


def small_step(models: Models, state: State, step: StepSpec, exponent: float | None) -> None:
    """The small model on every token."""
    models.small(state.x, state.timestep, state.sketch)
    _sketched(state, step, exponent)


KINDS = {Kind.FULL: full_step, Kind.HYBRID: hybrid_step, Kind.HELD: held_step, Kind.SMALL: small_step}
"""The step of each kind. exponent: of the carried residual, see `residual.correct`."""


def _sketched(state: State, step: StepSpec, exponent: float | None) -> None:
    if step.carry:
        residual.correct(state, exponent)
    else:
        state.velocity.copy_(state.sketch)


def freeze(models: Models, state: State, step: StepSpec, mask: Mask) -> None:
    """After a full step: a mask for those that follow, with the keys and values of its frozen tokens."""
    state.computed.copy_(mask.computed)
    state.frozen.copy_(mask.frozen)
    if step.extrapolate:
        models.freeze(state.mask, trend.first_factor(state, step))
    else:
        models.freeze(state.mask)


def move_keys(models: Models, state: State) -> None:
    """Between two held steps: the frozen keys and values move on."""
    models.move(state.mask, trend.next_ratio(state))


def leave_mask(state: State, step: StepSpec) -> None:
    """After the last step with a mask: note how often its tokens were computed, and renew their residual."""
    if step.renew:
        residual.renew(state)
    count = torch.full_like(state.computed, step.mask_used, dtype=state.refined.dtype)
    state.refined.scatter_add_(1, state.computed, count)


def measure(models: Models, state: State, step: StepSpec) -> Tensor | None:
    """After a full step: measure the residual, and how hard each token is.

    Returns:
        The score [B, N] of each token; None where no mask is made of it.
    """
    scores = token_mean(state.estimate - state.full_estimate) if step.score is Score.CHANGE else None
    if step.measure:
        models.small(state.x, state.timestep, state.sketch)
        residual.measure(state)
    return token_mean(state.difference) if step.score is Score.GAP else scores


def estimate(state: State) -> None:
    """The clean-image estimate of the velocity at hand; that of the step before goes to `before`."""
    state.before.copy_(state.estimate)
    torch.sub(state.x, state.sigma * state.velocity, out=state.estimate)


def advance(state: State) -> None:
    """An Euler step of the rectified flow, to the next sigma."""
    state.x.add_(state.stride * state.velocity)
