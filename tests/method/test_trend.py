"""Held tokens that move on, and what full steps correct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from small_pair import SmallPair
from torch import Tensor

from hybridstitch.method.parameters import SamplingParameters, Score, Sketch, Switch
from hybridstitch.method.program import Kind, StepSpec, extrapolates, make_program, remembers
from hybridstitch.method.schedule import Schedule
from hybridstitch.method.state import State
from hybridstitch.method.tokens import gather

LARGE = SamplingParameters("large", Schedule(9, 9, 9), 3.0)


def parameters(large: int = 2, steps: int = 9, refresh_every: int = 1, **options: Any) -> SamplingParameters:
    """Full 0, 1, 3, 5, 7; held 2, 4, 6, 8, unless told otherwise."""
    schedule = Schedule(steps, large, steps, refresh_every=refresh_every)
    settings = {"score": Score.CHANGE, "sketch": Sketch.HELD, "mask_ratio": 0.4, "guidance": 3.0, **options}
    return SamplingParameters("hybrid", schedule, **settings)


class StraightPair(SmallPair):
    """Its large model's velocity, keys and values are straight lines in sigma, different for each token and image, and
    a token's velocity takes in the keys and values of all tokens.

    mix: how much of these.
    """

    def __init__(self, mix: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        large, self.mix = self.engines["large"], mix
        self.names = [name.removeprefix("frozen_") for name in large.manifest.inputs]
        geometry = large.manifest.geometry
        inner = geometry.heads * geometry.head_dim
        generator = torch.Generator().manual_seed(5)
        self.weights = {
            name: [torch.randn(geometry.width, width, generator=generator) / 100 for _ in range(2)]
            for name, width in [("velocity", geometry.token_width), *((each, inner) for each in self.names)]
        }
        self.heads = geometry.heads
        large.compute = self.compute

    def compute(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        where = inputs["position"] + inputs["text"].mean(dim=(1, 2))[:, None, None]
        sigma = (inputs["timestep"] / 1000)[:, None, None]
        lines = {name: where @ start + sigma * (where @ slope) for name, (start, slope) in self.weights.items()}
        found = {name: lines[name].unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in self.names}
        seen = [torch.cat((found[name], inputs[f"frozen_{name}"]), dim=2).mean(dim=(1, 2, 3)) for name in self.names]
        return {"velocity": lines["velocity"] + self.mix * torch.stack(seen).sum(0)[:, None, None], **found}


def run(pair: SmallPair, settings: SamplingParameters) -> tuple[list[Tensor], State]:
    """The velocity of each step, and the state at the end."""
    with torch.inference_mode():
        sampler, state = pair.sampler(settings)
        return [state.velocity.clone() for _ in sampler], state


@pytest.mark.parametrize("correct", Switch)
@pytest.mark.parametrize("refresh", [1, 2, 4])
def test_where_velocity_keys_and_values_are_straight_lines_in_sigma_a_held_step_equals_a_full_one(correct, refresh):
    expected, large = run(StraightPair(batch=2), LARGE)
    settings = {"refresh_every": refresh, "correct": correct}
    found, state = run(StraightPair(batch=2), parameters(extrapolate=1.0, **settings))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(state.x, large.x, atol=1e-6, rtol=0)
    stays, _ = run(StraightPair(batch=2), parameters(**settings))
    for tokens in (state.computed, state.frozen):  # those whose neighbours' keys are old, and those that are held
        assert (gather(stays[8], tokens) - gather(expected[8], tokens)).abs().max() > 1e-3


@pytest.mark.parametrize("refresh", [1, 3])
@pytest.mark.parametrize("part", [0.0, 0.5])
def test_after_a_full_step_a_straight_line_is_as_if_no_token_had_been_held(refresh, part):
    def latents(pair: SmallPair, settings: SamplingParameters) -> dict[int, Tensor]:
        with torch.inference_mode():
            sampler, state = pair.sampler(settings)
            return {step.index: state.x.clone() for step in sampler if step.spec.kind is Kind.FULL}

    expected = latents(StraightPair(mix=0.0), LARGE)
    settings = {"refresh_every": refresh, "extrapolate": part}
    found = latents(StraightPair(mix=0.0), parameters(correct=Switch.ON, **settings))
    for step, ours in found.items():
        torch.testing.assert_close(ours, expected[step], atol=1e-6, rtol=0)
    uncorrected = latents(StraightPair(mix=0.0), parameters(**settings))
    last = max(found)
    assert (uncorrected[last] - expected[last]).abs().max() > 1e-3


BOTH = {"extrapolate": 0.5, "correct": Switch.ON}


def test_a_mask_of_all_tokens_is_large_only_where_the_rest_would_move_on():
    pair = SmallPair(batch=2)
    whole, _ = pair.sample(parameters(mask_ratio=1.0, **BOTH))
    torch.testing.assert_close(whole, pair.sample(LARGE)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("refresh", [1, 2])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("ratio", [0.0, 0.4])
def test_an_image_moves_on_alone_as_it_does_in_a_batch(refresh, guidance, ratio):
    settings = parameters(guidance=guidance, refresh_every=refresh, mask_ratio=ratio, **BOTH)
    batch, _ = SmallPair(batch=3, guidance=guidance).sample(settings)
    for image in range(3):
        alone, _ = SmallPair(images=[image], guidance=guidance).sample(settings)
        torch.testing.assert_close(batch[image], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [BOTH, {"extrapolate": 0.5}, {"correct": Switch.ON}])
def test_what_a_run_before_left_is_not_read(options):
    settings = parameters(refresh_every=2, **options)
    expected, _ = SmallPair().sample(settings)
    pair = SmallPair()
    sampler, state = pair.sampler(settings)
    workspace: Any = sampler._models
    left = [*workspace._workspace.earlier.values(), *workspace._workspace.frozen.values()]
    assert state.trend is not None
    for tensor in (*left, state.trend.velocity, state.trend.slope, state.trend.levels):
        tensor.fill_(float("nan"))
    with torch.inference_mode():
        for _ in sampler:
            pass
    assert torch.equal(state.x, expected)


@pytest.mark.parametrize("threshold", [0.999999, 0.15])
def test_an_adaptive_run_with_tokens_that_move_on_equals_the_fixed_run_that_it_finds(threshold):
    held = {"score": Score.CHANGE, "sketch": Sketch.HELD, "guidance": 3.0, **BOTH}
    pair, schedule = SmallPair(), Schedule(9, 9, 9, refresh_every=1)
    adaptive, found = pair.sample(SamplingParameters("hybrid", schedule, adaptive=threshold, **held))
    assert found.hybrid_steps
    fixed, _ = pair.sample(SamplingParameters("hybrid", found.schedule, **held))
    assert torch.equal(adaptive, fixed)


def program(**options: Any) -> tuple[StepSpec, ...]:
    return make_program(parameters(**options))


def where(steps: tuple[StepSpec, ...], name: str) -> list[int]:
    return [index for index, step in enumerate(steps) if getattr(step, name)]


def test_nothing_is_remembered_where_held_tokens_stay_as_they_were():
    steps = program(extrapolate=0.0, correct=Switch.OFF)
    assert [where(steps, name) for name in ("remember", "extrapolate", "correct")] == [[], [], []]
    assert not remembers(steps)
    assert not extrapolates(steps)


def test_tokens_move_on_from_the_second_full_step_on():
    steps = program(extrapolate=0.5, large=3, steps=10)  # held 3, 5, 7, 9
    assert where(steps, "extrapolate") == [2, 3, 4, 5, 6, 7, 8, 9]
    assert where(steps, "remember") == [1, 2, 4, 6, 8]
    assert where(steps, "correct") == []
    one = program(extrapolate=0.5, large=1, score=Score.GAP, steps=5)  # full 0, 2, 4; held 1, 3
    assert where(one, "extrapolate") == [2, 3]
    assert where(program(extrapolate=0.5, large=1, refresh_every=0, score=Score.GAP), "remember") == []


def test_a_full_step_corrects_the_held_ones_before_it_and_the_last_ones_stay():
    steps = program(correct=Switch.ON, refresh_every=2, steps=9)  # full 0, 1, 4, 7; held 2, 3, 5, 6, 8
    assert where(steps, "correct") == [2, 3, 4, 5, 6, 7]
    assert where(steps, "remember") == [1, 4]
    assert where(steps, "extrapolate") == []
    assert where(program(correct=Switch.ON, refresh_every=0), "correct") == []


def test_where_adaptive_switching_decides_every_full_step_is_ready_for_held_ones():
    settings: Any = {"score": Score.CHANGE, "sketch": Sketch.HELD, "guidance": 3.0, "adaptive": 0.1, **BOTH}
    undecided = SamplingParameters("hybrid", Schedule(8, 8, 8, refresh_every=1), **settings)
    before = make_program(undecided)
    assert where(before, "remember") == list(range(8))
    ended = make_program(undecided, undecided.schedule.end_large(4, hybrid=True))
    assert ended[:3] == before[:3]
    assert (ended[3].remember, ended[3].extrapolate) == (before[3].remember, before[3].extrapolate)


def test_settings_of_held_tokens_are_refused_where_none_are_held():
    with pytest.raises(ValueError, match="extrapolate concerns held tokens: it needs sketch 'held', not 'small'"):
        parameters(sketch=Sketch.SMALL, extrapolate=0.5)
    with pytest.raises(ValueError, match="correct concerns held tokens: it needs sketch 'held', not 'small'"):
        parameters(sketch=Sketch.SMALL, correct=Switch.ON)
    with pytest.raises(ValueError, match=r"extrapolate must be from 0 to 1, not 1\.5"):
        parameters(extrapolate=1.5)
