"""The noise levels of a run, and those that are taken from a finer grid."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from hybridstitch.method.sigmas import grid_steps, noise_levels

CPU = torch.device("cpu")


def levels_of(steps: int, grid: int = 0) -> torch.Tensor:
    return noise_levels(FlowMatchEulerDiscreteScheduler(shift=3.0), steps, 256, CPU, grid=grid)


@pytest.mark.parametrize(("steps", "grid"), [(1, 1), (1, 28), (4, 28), (10, 28), (27, 28), (28, 28), (999, 1000)])
def test_steps_on_a_grid_are_in_order_begin_at_its_first_and_stay_on_it(steps, grid):
    chosen = grid_steps(steps, grid)
    assert chosen[0] == 0
    assert all(before < after for before, after in zip([*chosen, grid], [*chosen[1:], grid + 1], strict=False))
    assert len(chosen) == steps


def test_the_first_steps_on_a_grid_are_closer_to_each_other_than_the_last_ones():
    chosen = [*grid_steps(10, 28), 28]
    gaps = [after - before for before, after in itertools.pairwise(chosen)]
    assert gaps[:3] == [1, 2, 3]
    assert max(gaps[:5]) < max(gaps[5:])


def test_a_grid_of_as_many_steps_changes_nothing():
    assert torch.equal(levels_of(12, grid=12), levels_of(12))


def test_steps_on_a_grid_have_its_noise_levels_and_lead_from_each_to_the_next():
    fine, coarse = levels_of(28), levels_of(10, grid=28)
    chosen = grid_steps(10, 28)
    sigma, following, stride, timestep = coarse.unbind(1)
    assert torch.equal(sigma, fine[chosen, 0])
    assert torch.equal(timestep, fine[chosen, 3])
    assert torch.equal(following[:-1], sigma[1:])
    assert following[-1] == 0
    assert stride.sum() == pytest.approx(-float(sigma[0]))


def test_a_velocity_that_is_held_leads_where_the_steps_between_would():
    velocity, fine, coarse = torch.tensor(2.0), levels_of(28), levels_of(4, grid=28)
    first = grid_steps(4, 28)[1]
    assert float(coarse[0, 2] * velocity) == pytest.approx(float((fine[:first, 2] * velocity).sum()), rel=1e-5)
