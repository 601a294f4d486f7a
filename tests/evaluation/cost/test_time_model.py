"""The time model: exact where time is what it says."""

import random

import pytest

from hybridstitch.evaluation.cost.time_model import TimeModel, error, fit, kinds
from hybridstitch.evaluation.tuning.candidates import grid, probes
from hybridstitch.evaluation.variants import PAPER
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

from ..tuning.made_up_pair import COSTS

DEMO = Recipe.load("demo")
HELD = {"score": "change", "sketch": "held"}


def test_made_up_costs_are_found_and_every_plan_is_told_exactly():
    truth, tried = TimeModel(COSTS), probes(DEMO)
    model = fit(tried, [truth.seconds(parameters) for parameters in tried])
    assert model.costs == pytest.approx(COSTS)
    everything = grid(DEMO)
    assert [model.seconds(parameters) for parameters in everything] == pytest.approx(
        [truth.seconds(parameters) for parameters in everything]
    )
    assert error(model, everything, [truth.seconds(parameters) for parameters in everything]) < 1e-9


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"method": "large", "steps": 9}, {"fixed": 1, "full": 9}),
        ({"method": "small", "steps": 9}, {"fixed": 1, "small": 9}),
        ({"method": "srdiffusion", "steps": 9, "large_steps": 4, "residual": "off"}, {"full": 4, "small": 5}),
        ({"method": "srdiffusion", "steps": 9, "large_steps": 4, "residual": 2}, {"full": 4, "small": 5 + 1}),
        ({"method": "t-stitch", "steps": 9, "large_steps": 4}, {"full": 4, "small": 5}),
        (
            {**PAPER, "steps": 12, "large_steps": 3, "hybrid_steps": 6, "refresh_every": 2, "residual": 3.0},
            {"full": 3 + 2, "hybrid@0.3": 4, "small": 3 + 3},
        ),
        (
            {**PAPER, "steps": 9, "large_steps": 3, "hybrid_steps": 4, "score": "change", "mask_ratio": 0.5},
            {"full": 3, "hybrid@0.5": 4, "small": 2},
        ),
        (
            {**PAPER, **HELD, "steps": 9, "large_steps": 3, "hybrid_steps": 4, "residual": 2.0},
            {"full": 3, "masked@0.3": 4, "small": 2 + 1},
        ),
        (
            {**PAPER, **HELD, "steps": 9, "large_steps": 3, "hybrid_steps": 6, "residual": 2.0},
            {"full": 3, "masked@0.3": 6},
        ),
    ],
)
def test_a_plan_counts_its_steps_and_the_calls_at_each_hand_over(settings, counts):
    assert dict(+kinds(make_parameters(DEMO, **settings))) == {"fixed": 1, **counts}


def test_noise_moves_the_model_a_little_and_no_cost_is_below_0():
    truth, tried, rng = TimeModel({**COSTS, "fixed": 0.0}), probes(DEMO), random.Random(0)
    for _ in range(20):
        model = fit(tried, [truth.seconds(parameters) * rng.uniform(0.95, 1.05) for parameters in tried])
        assert min(model.costs.values()) >= 0
        assert error(model, tried, [truth.seconds(parameters) for parameters in tried]) < 0.05


def test_too_few_measurements_are_refused():
    with pytest.raises(HybridStitchError, match="2 measured runs do not tell 3 kinds of step apart"):
        fit([make_parameters(DEMO), make_parameters(DEMO, "srdiffusion")][1:] * 2, [1.0, 1.0])
