"""What an evaluation compares, by its settings; nothing is drawn."""

from __future__ import annotations

import pytest

from hybridstitch.cli import evaluate
from hybridstitch.evaluation.quality.ablations import ABLATIONS, controls, methods
from hybridstitch.evaluation.variants import PAPER
from hybridstitch.method.settings import Sketch, Switch
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

DEMO = Recipe.load("demo")


def test_the_command_offers_every_ablation_and_no_other():
    assert set(evaluate.ABLATIONS) == set(ABLATIONS)


@pytest.mark.parametrize("steps", [28, 10])
@pytest.mark.parametrize("name", ABLATIONS)
def test_no_two_variants_of_an_ablation_have_one_name_and_the_demo_pair_takes_them_all(name, steps):
    variants = ABLATIONS[name](steps)
    assert len({variant.name for variant in variants}) == len(variants) > 0
    for variant in variants:
        make_parameters(DEMO, **variant.settings)


def test_what_an_evaluation_says_of_held_tokens_holds_whatever_the_recipe_says_of_them():
    named = [variant for variant in methods(28) if variant.name.startswith("held")]
    assert named
    assert {"extrapolate", "correct"} <= PAPER.keys()
    assert all({"extrapolate", "correct"} <= variant.settings.keys() for variant in named)


def test_moving_on_compares_either_part_alone_how_far_which_masks_and_how_many_full_steps():
    held = [each for each in ABLATIONS["moving-on"](28) if each.method == "hybrid"]
    every = [make_parameters(DEMO, **variant.settings) for variant in held]
    parts = {(parameters.extrapolate, parameters.correct) for parameters in every}
    assert {(0.0, Switch.OFF), (0.5, Switch.OFF), (0.0, Switch.ON), (0.5, Switch.ON)} <= parts
    assert {each.extrapolate for each in every} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert {each.mask_ratio for each in every} == {0.0, 0.15, 0.3, 0.5}
    assert {each.schedule.refresh_every for each in every} == {1, 2}
    assert {(each.sketch, each.schedule.grid) for each in every} == {(Sketch.HELD, 28)}
    ends = [each.schedule.steps - each.schedule.hybrid_until for each in every]
    assert sorted(set(ends)) == [0, 1]
    assert ends.count(1) == 2  # as the recipe has it, with and without


def test_moving_on_stands_beside_the_large_model_on_its_grid_alone():
    assert controls(28, "moving-on") == []
    assert controls(28) == controls(28, "refresh") != []
