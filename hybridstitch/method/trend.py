"""Held tokens that move on: velocities change smoothly with sigma, so a held token can follow the line through the last
two full steps, and what it did can be corrected once the next full step is known. Ours, beyond the paper.

With full steps at sigma_0 > sigma_1, their velocities v_0 and v_1, and a part e of the change:

    move on: a held step at sigma takes v_1 + e (sigma - sigma_1) (v_1 - v_0) / (sigma_1 - sigma_0), and so its frozen
    keys and values;
    correct: the next full step, at sigma_2, adds for each held step j its stride_j times the difference between the
    line from v_1 to v_2 at sigma_j and what was taken. With the slope s = (v_2 - v_1) / (sigma_2 - sigma_1), and s'
    the one that was taken, that is (s - s') * sum_j stride_j (sigma_j - sigma_1): no held step's velocity is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .program import StepSpec
from .state import State, Trend
from .tokens import add_rows, gather


def follow(state: State, step: StepSpec) -> None:
    """After a full step's velocity is known: correct what the held steps before it did, and remember the velocity and
    how it changes."""
    trend = _of(state)
    if step.extrapolate or step.correct:
        torch.sub(state.sigma, trend.sigma, out=trend.span)
        slope = (state.velocity - trend.velocity).div_(trend.span)
        if step.correct:
            add_rows(state.x, gather(slope - trend.slope, state.frozen) * trend.held, state.frozen)
        torch.mul(slope, step.extrapolate, out=trend.slope)
    else:
        trend.slope.zero_()
    if step.remember:
        trend.velocity.copy_(state.velocity)
        trend.sigma.copy_(state.sigma)
        trend.held.zero_()


def move_on(state: State) -> None:
    """velocity: of every token, where the line has it in this held step."""
    trend = _of(state)
    torch.addcmul(trend.velocity, trend.slope, state.sigma - trend.sigma, out=state.velocity)


def note_held(state: State) -> None:
    """In a held step that the next full one corrects."""
    trend = _of(state)
    trend.held.add_(state.stride * (state.sigma - trend.sigma))


def first_factor(state: State, step: StepSpec) -> Tensor:
    """A full step's keys and values move on by so many of their changes since the full step before, for the held step
    that follows."""
    return step.extrapolate * (state.next_sigma - state.sigma) / _of(state).span


def next_ratio(state: State) -> Tensor:
    """How far the next held step is from the last full one, as a multiple of how far this held step is."""
    sigma = _of(state).sigma
    return (state.next_sigma - sigma) / (state.sigma - sigma)


def _of(state: State) -> Trend:
    assert state.trend is not None  # the workspace has one where the program remembers
    return state.trend
