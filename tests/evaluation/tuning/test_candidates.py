"""The grid, and what is left of it for a target."""

from collections import Counter

import pytest

from hybridstitch.evaluation.cost.time_model import TimeModel
from hybridstitch.evaluation.tuning.candidates import Candidate, control_curve, grid, priced, spread, within
from hybridstitch.evaluation.variants import PAPER
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

from .made_up_pair import COSTS

DEMO = Recipe.load("demo")
EVERYTHING = priced(grid(DEMO), TimeModel(COSTS))
FULL = TimeModel(COSTS).seconds(make_parameters(DEMO, "large"))


def test_every_method_is_in_the_grid_and_large_in_every_number_of_steps_below_the_full():
    steps = [one.parameters.schedule.steps for one in EVERYTHING if one.method == "large"]
    assert sorted(steps) == sorted([*range(1, 28)] * 2)  # evenly spaced, and on the grid of 28
    assert {one.parameters.schedule.grid for one in EVERYTHING} == {0, 28}
    assert set(Counter(one.method for one in EVERYTHING)) == {"large", "small", "srdiffusion", "t-stitch", "hybrid"}


def test_no_two_candidates_are_the_same_and_their_settings_make_the_same_plan():
    assert len({one.name for one in EVERYTHING}) == len({one.parameters for one in EVERYTHING}) == len(EVERYTHING)
    assert all(make_parameters(DEMO, one.method, **one.settings) == one.parameters for one in EVERYTHING)


def test_the_grid_has_every_built_mask_ratio_and_every_setting_of_the_hybrid_method_with_and_without():
    hybrid = [one.parameters for one in EVERYTHING if one.kind == "hybrid"]
    assert {parameters.mask_ratio for parameters in hybrid} == {0.15, 0.3, 0.5}
    assert {parameters.score for parameters in hybrid} == {"gap", "change"}
    assert {parameters.residual for parameters in hybrid} == {None, 1.5, 3.0}
    assert {parameters.schedule.refresh_every for parameters in hybrid} == {0, 3}
    assert {parameters.guidance for parameters in hybrid} == {DEMO.defaults.guidance}


def test_without_the_small_model_the_large_one_refines_to_the_end():
    held = [one.parameters for one in EVERYTHING if one.kind == "hybrid, held"]
    assert len(held) > 100
    assert {parameters.mask_ratio for parameters in held} == {0.15, 0.3, 0.5}
    assert {parameters.schedule.refresh_every for parameters in held} == {0, 1, 2}
    assert {(parameters.score, parameters.residual) for parameters in held} == {("change", None)}
    assert all(parameters.schedule.hybrid_until == parameters.schedule.steps for parameters in held)


def test_held_tokens_stay_or_move_on_and_are_corrected_where_full_steps_follow_them():
    held = [one.parameters for one in EVERYTHING if one.kind == "hybrid, held"]
    moves = {(parameters.extrapolate, parameters.correct) for parameters in held}
    assert moves == {(0.0, "off"), (0.5, "on")}
    assert all(parameters.extrapolate == 0 for parameters in held if not parameters.schedule.refresh_every)
    staying = [parameters for parameters in held if not parameters.extrapolate]
    assert len(staying) < len(held) < 2 * len(staying)


def test_a_target_leaves_what_uses_most_of_its_time_and_the_slowest_of_a_method_that_cannot():
    left = within(EVERYTHING, FULL / 2)
    assert 50 < len(left) < len(EVERYTHING) / 2
    assert max(one.predicted for one in left) <= FULL / 2 * 1.05
    assert min(one.predicted for one in left if one.method == "hybrid") >= FULL / 2 * 0.7
    assert {one.method for one in left} == {"large", "small", "srdiffusion", "t-stitch", "hybrid"}
    assert "small, 28 steps" in {one.name for one in left}
    assert within(EVERYTHING, 0.001) == []


def test_a_sample_has_every_method_and_a_smaller_one_begins_a_larger_one():
    sample = spread(EVERYTHING, 40)
    assert min(Counter(one.kind for one in sample).values()) >= 5
    assert len(set(sample)) == 40
    assert spread(EVERYTHING, 100)[:40] == sample
    assert len(spread(EVERYTHING, 10**6)) == len(EVERYTHING)


def test_the_controls_curve_spans_the_steps_of_large():
    steps = [one.parameters.schedule.steps for one in control_curve(EVERYTHING)]
    assert len(steps) == 8
    assert steps == sorted(steps)
    assert steps[0] <= 3
    assert steps[-1] >= 25
    assert control_curve([]) == []


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"method": "large", "steps": 9}, "large, 9 steps"),
        ({"method": "t-stitch", "steps": 9, "large_steps": 4}, "t-stitch, 9 steps: 5 small, 4 large"),
        (
            {"steps": 9, "large_steps": 2, "hybrid_steps": 4, **PAPER, "refresh_every": 3},
            "hybrid, 9 steps: 2 large, 4 hybrid, 3 small, mask 0.3, gap, refresh 3, no residual",
        ),
        (
            {"steps": 9, "large_steps": 7, "hybrid_steps": 2, "score": "change", "sketch": "held", "grid": 28},
            "hybrid, 9 steps of 28: 7 large, 2 hybrid, mask 0.3, change, the rest held, refresh 1, residual 1",
        ),
        (
            {
                "steps": 9,
                "large_steps": 3,
                "hybrid_steps": 6,
                "score": "change",
                "sketch": "held",
                "grid": 28,
                "extrapolate": 0.5,
                "correct": "on",
                "residual": "off",
                "refresh_every": 2,
            },
            "hybrid, 9 steps of 28: 3 large, 6 hybrid, mask 0.3, change, the rest held, moving on 0.5, corrected, "
            "refresh 2, no residual",
        ),
    ],
)
def test_a_candidates_name_says_its_settings(settings, name):
    assert Candidate(make_parameters(DEMO, **settings), 1.0).name == name
