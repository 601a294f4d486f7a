"""Tuning a pair whose best schedule is known, in every direction that it may go."""

import pytest

from hybridstitch.evaluation.tuning.pareto import draw_pareto
from hybridstitch.evaluation.tuning.tune import tune
from hybridstitch.evaluation.tuning.verdict import Target
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.parameters import make_parameters

from .made_up_pair import CASES, MadeUpPair, make_session

FULL = 0.05 + 28 * 0.04


def of_seed(seed: int) -> float:
    """How much easier a caption is than others, the same for all methods."""
    return seed % 5 * 0.8


def by_steps(parameters, seed):
    """The large model is closer the more steps it has; two models are far away."""
    return (12 + parameters.schedule.steps if parameters.method == "large" else 17.0) + of_seed(seed)


def hybrid_shines(parameters, seed):
    """The hybrid method is best, most of all with score change and a mask of 0.3."""
    bonus = (
        8.0 if parameters.method == "hybrid" and parameters.score == "change" and parameters.mask_ratio == 0.3 else 0.0
    )
    return min(60.0, 20 + parameters.schedule.steps / 4 + bonus) + of_seed(seed)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "drawn.jsonl"


def test_where_large_with_fewer_steps_is_best_that_is_what_comes_out(path):
    tuned = tune(make_session(MadeUpPair(by_steps), path), Target(speedup=2))
    assert tuned.method == "large"
    assert tuned.settings == {"steps": 13, "guidance": 5.0, "grid": 0}
    assert tuned.facts["speedup"] == pytest.approx(FULL / (0.05 + 13 * 0.04), abs=1e-3)
    assert tuned.facts["time_model_error"] == 0
    assert tuned.facts["complete"]
    told = tuned.facts["found"]
    assert told.startswith("For 2x the speed of large: large, 13 steps (26.")
    assert "is chosen, over 6 captions. It is the closest to large's own pictures of what was timed." in told
    assert "The best of two models, " in told
    assert "the chosen one is 8.0 dB closer (95 % interval 8.0 to 8.0 dB)." in told


def test_where_the_hybrid_method_is_best_it_comes_out_with_its_settings_and_what_it_wins_over_the_control(path):
    tuned = tune(make_session(MadeUpPair(hybrid_shines), path), Target(seconds=FULL / 2))
    assert tuned.method == "hybrid"
    assert (tuned.settings["score"], tuned.settings["mask_ratio"]) == ("change", 0.3)
    assert tuned.facts["seconds"] <= FULL / 2
    assert "The control, large with fewer steps, large, 13 steps (" in tuned.facts["found"]
    control = tuned.verdict.control
    assert control is not None
    assert control.candidate.parameters.schedule.steps == 13
    parameters = make_parameters(MadeUpPair(by_steps).recipe, tuned.method, **tuned.settings)
    assert tuned.verdict.chosen is not None
    assert parameters == tuned.verdict.chosen.candidate.parameters


def test_a_method_that_is_better_by_chance_alone_gives_way_to_the_simpler(path):
    def chance(parameters, seed):
        if parameters.method == "hybrid":
            return 25.0 + (4.0 if seed % 2 else -3.6)
        return 25.0 if parameters.method == "large" else 15.0

    tuned = tune(make_session(MadeUpPair(chance), path), Target(speedup=2))
    assert tuned.method == "large"
    assert tuned.verdict.best is not None
    assert tuned.verdict.best.candidate.method == "hybrid"
    assert "measured 0.2 dB closer (95 % interval " in tuned.facts["found"]
    assert "that may be chance, so the simpler wins." in tuned.facts["found"]


def test_for_a_closeness_the_fastest_that_keeps_it_comes_out(path):
    tuned = tune(make_session(MadeUpPair(by_steps), path), Target(psnr=30))
    assert (tuned.method, tuned.settings["steps"]) == ("large", 17)
    assert tuned.facts["psnr_db"] >= 30
    assert "For a PSNR of 30 dB: large, 17 steps" in tuned.facts["found"]


def test_a_closeness_that_nothing_faster_keeps_leaves_large_in_its_full_steps_and_says_so(path):
    tuned = tune(make_session(MadeUpPair(by_steps), path), Target(psnr=60))
    assert (tuned.method, tuned.settings["steps"]) == ("large", 28)
    assert tuned.facts["speedup"] == 1
    assert tuned.facts["found"] == (
        "Nothing keeps to a PSNR of 60 dB in less than large's 1.17 s. So it is large in its 28 steps."
    )


def test_a_time_that_large_keeps_to_needs_no_search(path):
    pipe = MadeUpPair(by_steps)
    tuned = tune(make_session(pipe, path), Target(seconds=2))
    assert (tuned.method, tuned.settings["steps"]) == ("large", 28)
    assert tuned.facts["found"] == "Large in its 28 steps takes 1.17 s: that is within 2 s a picture."
    assert len(pipe.drawn) < 50


def test_what_the_finalists_are_judged_by_is_not_what_they_were_found_by(path):
    pipe = MadeUpPair(by_steps)
    session = make_session(pipe, path)
    tune(session, Target(speedup=2))
    kinds = {(what, case) for what, _, case in session.journal.lines if what != "probe"}
    assert {case for what, case in kinds if what == "search"} == set(range(6))
    assert {case for what, case in kinds if what == "final"} == set(range(6, 12))


def test_all_is_bounded_by_the_minutes_and_the_best_so_far_is_what_comes_out(path):
    pipe = MadeUpPair(by_steps)
    tuned = tune(make_session(pipe, path, minutes=1.5), Target(speedup=2))
    assert pipe.now < 90 + 2 * FULL
    assert not tuned.facts["complete"]
    assert tuned.method == "large"
    assert "Time was out before all was compared; more minutes, with --resume, may find better." in tuned.facts["found"]


def test_on_a_machine_that_gets_busy_fewer_go_on_and_the_finalists_are_still_compared(path):
    busy = MadeUpPair(by_steps)
    busy.pace = lambda _: 1.0 if len(busy.drawn) < 30 else 2.5
    tuned = tune(make_session(busy, path, minutes=8), Target(speedup=2))
    assert busy.now < 480 + 5 * FULL
    assert len(tuned.finalists[0].psnr) >= 4
    assert tuned.facts["seconds_of_large"] == pytest.approx(2.5 * FULL)
    assert (tuned.method, tuned.settings["steps"]) == ("large", 13)


def test_time_for_nothing_is_told(path):
    with pytest.raises(HybridStitchError, match=r"0.1 minutes are too few to draw .*: give more, with --resume"):
        tune(make_session(MadeUpPair(by_steps), path, minutes=0.1), Target(speedup=2))


def test_a_search_that_was_stopped_goes_on_where_it_was_and_ends_as_if_it_had_not_been(path, tmp_path):
    whole = MadeUpPair(by_steps)
    expected = tune(make_session(whole, tmp_path / "whole.jsonl"), Target(speedup=2))
    first = MadeUpPair(by_steps, interrupt_after=150)
    with pytest.raises(KeyboardInterrupt):
        tune(make_session(first, path), Target(speedup=2))
    second = MadeUpPair(by_steps)
    tuned = tune(make_session(second, path, resume=True), Target(speedup=2))
    assert (tuned.method, tuned.settings, tuned.facts) == (expected.method, expected.settings, expected.facts)
    references = len(CASES) // 2  # pictures to compare with are not kept
    assert len(first.drawn) + len(second.drawn) <= len(whole.drawn) + references
    again = MadeUpPair(by_steps)
    assert tune(make_session(again, path, resume=True), Target(speedup=2)).facts == expected.facts
    assert again.drawn == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            Target(seconds=0.02),
            r"nothing meets 0.02 s a picture, 0.02 s: the fastest, large, 1 step, takes about 0.09 s",
        ),
        (Target(speedup=500), r"nothing meets 500x the speed of large, 0.0023 s: the fastest, "),
    ],
)
def test_a_time_that_nothing_meets_is_told_with_the_fastest(path, target, words):
    with pytest.raises(HybridStitchError, match=words):
        tune(make_session(MadeUpPair(by_steps), path), target)


def test_a_time_that_was_met_only_by_the_time_model_is_told(path):
    slow_later = MadeUpPair(by_steps)
    slow_later.pace = lambda parameters: 1.0 if len(slow_later.drawn) < 60 or parameters.schedule.steps == 28 else 3.0
    with pytest.raises(HybridStitchError, match=r"nothing that was timed meets 0.3 s a picture, 0.3 s: the fastest, "):
        tune(make_session(slow_later, path, minutes=60), Target(seconds=0.3))


def test_too_few_captions_or_steps_are_refused(path):
    pipe = MadeUpPair(by_steps)
    with pytest.raises(HybridStitchError, match="tuning takes at least 4 captions, not 3"):
        tune(make_session(pipe, path, cases=CASES[:3]), Target(speedup=2))
    defaults = pipe.recipe.defaults.model_copy(update={"steps": 3})
    pipe.recipe = pipe.recipe.model_copy(update={"defaults": defaults})
    with pytest.raises(HybridStitchError, match="pair 'demo' draws in 3 steps; tuning begins at 4"):
        tune(make_session(pipe, path.with_name("b.jsonl")), Target(speedup=2))


def test_the_plot_is_a_picture_and_nothing_half_written_is_left(path, tmp_path):
    tuned = tune(make_session(MadeUpPair(hybrid_shines), path), Target(speedup=2))
    draw_pareto(tuned, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(HybridStitchError, match=r"cannot write .*none/pareto.png: No such file"):
        draw_pareto(tuned, tmp_path / "none" / "pareto.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["drawn.jsonl", "pareto.png"]
