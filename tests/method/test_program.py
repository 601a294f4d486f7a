"""What each step of a run does, and what follows it."""

from __future__ import annotations

from typing import Any

import pytest

from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.program import Kind, StepSpec, make_program
from hybridstitch.method.schedule import Schedule, Stage
from hybridstitch.method.settings import Score, Sketch

REFRESHED = Schedule(
    steps=8, large_until=2, hybrid_until=7, refresh_every=2
)  # full 0, 1, 4; masked 2, 3, 5, 6; small 7


def program(schedule: Schedule, method: Any = "hybrid", **settings: Any) -> tuple[StepSpec, ...]:
    return make_program(SamplingParameters(method, schedule, guidance=5.0, **settings))


def where(steps: tuple[StepSpec, ...], **values: Any) -> list[int]:
    """The steps that have all these values."""
    return [
        index for index, step in enumerate(steps) if all(getattr(step, name) == each for name, each in values.items())
    ]


@pytest.mark.parametrize(
    ("method", "schedule", "kinds"),
    [
        ("large", Schedule(3, 3, 3), ["full"] * 3),
        ("small", Schedule(3, 0, 0), ["small"] * 3),
        ("srdiffusion", Schedule(4, 1, 1), ["full", "small", "small", "small"]),
        ("t-stitch", Schedule(4, 1, 1, small_first=True), ["small", "small", "small", "full"]),
        ("hybrid", REFRESHED, ["full", "full", "hybrid", "hybrid", "full", "hybrid", "hybrid", "small"]),
    ],
)
def test_every_method_is_a_program_of_the_same_kinds_of_step(method, schedule, kinds):
    assert [step.kind for step in program(schedule, method)] == kinds


def test_held_steps_take_the_place_of_sketched_ones():
    steps = program(REFRESHED, sketch=Sketch.HELD, score=Score.CHANGE)
    assert where(steps, kind=Kind.HELD) == [2, 3, 5, 6]
    assert where(steps, kind=Kind.HYBRID) == []


def test_a_refresh_is_a_full_step_of_the_hybrid_stage():
    assert where(program(REFRESHED), kind=Kind.FULL, stage=Stage.HYBRID) == [4]


def test_a_mask_is_made_after_the_last_full_step_before_masked_ones():
    steps = program(REFRESHED, score=Score.CHANGE)
    assert where(steps, score=Score.CHANGE) == [1, 4]
    assert where(steps, measure=True) == []


@pytest.mark.parametrize("schedule", [Schedule(4, 4, 4), Schedule(4, 2, 2), Schedule(4, 2, 2, small_first=True)])
def test_no_mask_is_made_where_no_masked_step_follows(schedule):
    steps = program(schedule, "large")
    assert where(steps, score=None) == [0, 1, 2, 3]


def test_a_mask_ends_before_a_refresh_another_stage_or_the_end_and_says_how_often_it_was_used():
    assert {index: step.mask_used for index, step in enumerate(program(REFRESHED)) if step.mask_used} == {3: 2, 6: 2}
    assert where(program(Schedule(4, 1, 4)), mask_used=3) == [3]


def test_the_small_model_is_called_once_more_for_the_gap_or_a_residual_that_a_later_step_adds():
    assert where(program(REFRESHED), measure=True) == [1, 4]
    held = {"sketch": Sketch.HELD, "score": Score.CHANGE, "residual": 3.0}
    assert where(program(REFRESHED, **held), measure=True) == [4]  # only the small stage, step 7, adds it
    assert where(program(Schedule(8, 2, 8, refresh_every=2), **held), measure=True) == []
    assert where(program(Schedule(4, 2, 2), "srdiffusion", residual=3.0), measure=True) == [1]
    assert where(program(Schedule(4, 2, 2), "srdiffusion"), measure=True) == []


def test_the_residual_is_carried_by_every_step_that_the_small_model_draws_and_renewed_where_a_mask_ends():
    steps = program(REFRESHED, residual=3.0)
    assert where(steps, carry=True) == [2, 3, 5, 6, 7]
    assert where(steps, renew=True) == [3, 6]
    assert where(program(REFRESHED), carry=True) == []


def test_estimates_are_kept_for_the_change_score_and_for_adaptive_switching_alone():
    assert where(program(REFRESHED), estimate=True) == []
    assert len(where(program(REFRESHED, score=Score.CHANGE), estimate=True)) == 8
    assert len(where(program(Schedule(8, 8, 8), adaptive=0.1), estimate=True)) == 8


def test_adaptive_switching_replaces_what_is_left_and_nothing_that_was_made():
    parameters = SamplingParameters("hybrid", Schedule(8, 8, 8), guidance=5.0, adaptive=0.1, residual=2.0)
    before = make_program(parameters)
    ended = make_program(parameters, parameters.schedule.end_large(3, hybrid=True))
    assert ended[:2] == before[:2]
    assert ended[2].kind is Kind.FULL
    assert (ended[2].score, ended[2].measure) == (Score.GAP, True)
    assert where(ended, kind=Kind.HYBRID) == [3, 4, 5, 6, 7]
