"""Sampling parameters: the recipe's defaults, what overrides them, and what is refused."""

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.parameters import Score
from hybridstitch.method.schedule import Stage
from hybridstitch.method.settings import LATER, METHODS, settings_from
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

DEMO = Recipe.load("demo")


def test_the_recipe_gives_what_is_not_said():
    parameters = make_parameters(DEMO)
    settings = DEMO.settings("hybrid")
    assert parameters.method == DEMO.defaults.method
    assert parameters.schedule.steps == settings["steps"]
    assert parameters.schedule.large_until == settings["large_steps"]
    assert parameters.guidance == DEMO.defaults.guidance


def test_stage_lengths_scale_with_the_number_of_steps():
    full, half = make_parameters(DEMO), make_parameters(DEMO, steps=make_parameters(DEMO).schedule.steps // 2)
    assert half.schedule.large_until == pytest.approx(full.schedule.large_until / 2, abs=0.51)
    assert half.schedule.hybrid_until == pytest.approx(full.schedule.hybrid_until / 2, abs=1.01)


def held_in_12_steps() -> Recipe:
    """The demo pair with a hybrid method of fewer steps than the others have."""
    hybrid = {"steps": 12, "large_steps": 5, "hybrid_steps": 7, "score": "change", "sketch": "held", "grid": 28}
    return DEMO.model_copy(update={"methods": {"hybrid": hybrid}})


def test_a_method_may_have_steps_of_its_own():
    recipe = held_in_12_steps()
    assert make_parameters(recipe).schedule.steps == 12
    assert make_parameters(recipe, "large").schedule.steps == DEMO.defaults.steps


@pytest.mark.parametrize(("steps", "grid"), [(6, 28), (28, 28), (29, 0), (100, 0)])
def test_a_recipes_grid_that_has_fewer_steps_than_a_run_asks_for_is_left_out(steps, grid):
    schedule = make_parameters(held_in_12_steps(), steps=steps).schedule
    assert (schedule.steps, schedule.grid) == (steps, grid)
    with pytest.raises(HybridStitchError, match="grid must be 0 or at least the steps, 29, not 28"):
        make_parameters(held_in_12_steps(), steps=29, grid=28)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 12, 30])
def test_a_score_that_compares_two_large_steps_gets_them_in_any_number_of_steps(steps):
    schedule = make_parameters(held_in_12_steps(), steps=steps).schedule
    assert schedule.large_until >= min(2, steps)
    assert schedule.hybrid_until == steps


def test_a_recipes_score_that_one_large_step_cannot_have_is_left_out_and_a_runs_own_is_refused():
    assert make_parameters(held_in_12_steps(), large_steps=2).score is Score.CHANGE
    assert make_parameters(held_in_12_steps(), large_steps=1).score is Score.GAP
    with pytest.raises(HybridStitchError, match="score 'change' compares two large steps"):
        make_parameters(held_in_12_steps(), large_steps=1, score="change")


def test_what_a_recipe_says_of_held_tokens_is_left_out_where_none_are_held_and_a_runs_own_is_refused():
    recipe = held_in_12_steps()
    recipe.methods["hybrid"] |= {"extrapolate": 0.5, "correct": "on"}
    held, sketched = make_parameters(recipe), make_parameters(recipe, sketch="small")
    assert (held.extrapolate, held.correct) == (0.5, "on")
    assert (sketched.extrapolate, sketched.correct) == (0.0, "off")
    with pytest.raises(HybridStitchError, match="extrapolate concerns held tokens: it needs sketch 'held'"):
        make_parameters(recipe, sketch="small", extrapolate=0.5)
    with pytest.raises(HybridStitchError, match="unknown correct 'true'; known: on, off"):
        make_parameters(recipe, correct="true")


def test_a_report_from_before_a_setting_existed_makes_the_parameters_without_it():
    parameters = make_parameters(DEMO, "hybrid")
    report = {name: value for name, value in parameters.as_dict().items() if name not in LATER}
    assert make_parameters(DEMO, **settings_from(report)) == parameters
    del report["steps"]
    with pytest.raises(KeyError, match="steps"):
        settings_from(report)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_defaults_fit_any_number_of_steps(steps):
    for method in ("hybrid", "large", "small", "srdiffusion", "t-stitch"):
        assert make_parameters(DEMO, method, steps=steps).schedule.steps == steps


def test_every_method_is_a_plan_of_the_same_sampler():
    def stages(method):
        schedule = make_parameters(DEMO, method).schedule
        return [schedule.stage(step) for step in (0, schedule.steps // 2, schedule.steps - 1)]

    assert stages("large") == [Stage.LARGE] * 3
    assert stages("small") == [Stage.SMALL] * 3
    assert stages("srdiffusion")[::2] == [Stage.LARGE, Stage.SMALL]
    assert stages("t-stitch")[::2] == [Stage.SMALL, Stage.LARGE]
    assert make_parameters(DEMO, "hybrid").has_hybrid
    assert not make_parameters(DEMO, "srdiffusion").has_hybrid


def test_off_means_the_papers_method():
    assert make_parameters(DEMO, residual="off").residual is None
    assert make_parameters(DEMO, residual=2).residual == 2
    assert make_parameters(DEMO, "srdiffusion").residual is None


def test_a_plan_can_be_made_again_from_its_report():
    parameters = make_parameters(
        DEMO, steps=20, large_steps=3, hybrid_steps=9, score="change", residual="off", refresh_every=4
    )
    assert make_parameters(DEMO, "hybrid", **settings_from(parameters.as_dict())) == parameters


@pytest.mark.parametrize("method", METHODS)
def test_so_can_the_plan_of_every_method(method):
    parameters = make_parameters(DEMO, method, steps=11)
    assert make_parameters(DEMO, method, **settings_from(parameters.as_dict())) == parameters


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "magic"}, "unknown method 'magic'; known: hybrid, large, small, srdiffusion, t-stitch"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, not 0"),
        ({"steps": 10**9}, "steps must be a whole number from 1 to 1000, not 1000000000"),
        ({"steps": 2.5}, "steps must be a whole number from 1 to 1000, not 2.5"),
        ({"large_steps": "1"}, "large steps must be a whole number of at least 0, not '1'"),
        ({"hybrid_steps": True}, "hybrid steps must be a whole number of at least 0, not True"),
        ({"guidance": "7"}, "guidance must be a number, not '7'"),
        ({"guidance": 10**400}, "guidance must be a number, not 1000"),
        ({"residual": "on"}, "residual exponent .or 'off'. must be a number, not 'on'"),
        ({"colour": 3}, "unknown setting 'colour'; known: steps, guidance, large_steps"),
        ({"method": ""}, "unknown method ''; known: hybrid"),
        ({"guidance": -1.0}, "guidance must be from 0 to 100"),
        ({"guidance": float("nan")}, "guidance must be a number, not nan"),
        ({"mask_ratio": 1.5}, "mask ratio must be from 0 to 1, not 1.5"),
        ({"mask_ratio": float("nan")}, "mask ratio must be a number, not nan"),
        ({"residual": -1.0}, "residual exponent must be from 0 to 16"),
        ({"score": "guess"}, "unknown score 'guess'; known: gap, change"),
        ({"adaptive": 2.0}, "adaptive threshold must be between 0 and 1"),
        ({"adaptive": 0.1, "large_steps": 3}, "give it or stage lengths, not both"),
        ({"large_steps": 0}, "needs at least 1 large step"),
        ({"large_steps": 20, "hybrid_steps": 20}, "do not fit into 12 steps"),
        ({"large_steps": 1, "score": "change"}, "needs at least 2 of them"),
        ({"method": "small", "mask_ratio": 0.2}, "method 'small' has no setting 'mask_ratio'; its settings: none"),
        ({"method": "t-stitch", "hybrid_steps": 2}, "has no setting 'hybrid_steps'"),
        ({"refresh_every": -2}, "refresh_every must be a whole number of at least 0, not -2"),
        ({"adaptive": "on"}, "adaptive threshold .or 'off'. must be a number, not 'on'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, words):
    with pytest.raises(HybridStitchError, match=words) as caught:
        make_parameters(DEMO, **settings)
    assert "\n" not in str(caught.value)


def test_both_scores_have_names():
    assert [str(score) for score in Score] == ["gap", "change"]
