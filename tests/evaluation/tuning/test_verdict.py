"""Which finalist is chosen, and how sure that is said to be."""

import random

import pytest

from hybridstitch.evaluation.tuning.candidates import Candidate
from hybridstitch.evaluation.tuning.verdict import Finalist, Target, decide, student, student_interval
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

DEMO = Recipe.load("demo")
REFERENCE = [1.0] * 8


def finalist(method, psnr, seconds, **settings):
    return Finalist(Candidate(make_parameters(DEMO, method, **settings), 0.0), tuple(psnr), tuple(seconds))


@pytest.mark.parametrize("captions", [4, 12, 24])
def test_the_interval_of_a_paired_difference_holds_the_truth_19_times_in_20(captions):
    rng, held = random.Random(0), 0
    for _ in range(1000):
        easy = [rng.gauss(30, 5) for _ in range(captions)]
        low, high = student_interval([value + rng.gauss(0.5, 1) for value in easy], easy)
        held += low <= 0.5 <= high
    assert 930 <= held <= 970  # 950, and three standard deviations of the count


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(3, 3.1824), (5, 2.5706), (11, 2.2010), (23, 2.0687), (1000, 1.9623)]
)
def test_students_quantiles_are_those_of_the_tables(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, rel=0.01)


def test_few_captions_tell_nothing_apart():
    assert student_interval([30.0] * 3, [10.0] * 3) == (float("-inf"), float("inf"))
    assert student_interval([30.0] * 4, [10.0] * 4) == (20.0, 20.0)


def test_a_speedup_is_that_of_pictures_drawn_in_turn_so_a_slower_machine_changes_nothing():
    found = finalist("small", [20.0] * 4, [0.5, 0.5, 2.0, 2.0])
    assert found.speedup([1.0, 1.0, 4.0, 4.0]) == 2
    assert decide([found], [1.0, 1.0, 4.0, 4.0], Target(speedup=2)).chosen is found


def test_only_what_keeps_to_the_target_is_chosen_however_close_the_others_are():
    close, fast = finalist("large", [40.0] * 8, [0.6] * 8, steps=17), finalist("large", [30.0] * 8, [0.4] * 8, steps=11)
    assert decide([close, fast], REFERENCE, Target(speedup=2)).chosen is fast
    assert decide([close, fast], REFERENCE, Target(seconds=0.7)).chosen is close
    assert decide([close, fast], REFERENCE, Target(psnr=35)).chosen is close
    assert decide([close, fast], REFERENCE, Target(seconds=0.1)).chosen is None


def test_of_two_that_keep_a_closeness_as_fast_as_each_other_the_simpler_is_chosen():
    times = [0.40, 0.42, 0.38, 0.41, 0.39, 0.43, 0.37, 0.40]
    simple = finalist("large", [32.0] * 8, times, steps=11)
    fast = finalist("hybrid", [32.0] * 8, [0.41, 0.38, 0.40, 0.38, 0.42, 0.39, 0.40, 0.39])
    verdict = decide([simple, fast], REFERENCE, Target(psnr=30))
    assert (verdict.best, verdict.chosen) == (fast, simple)
    assert "that may be chance, so the simpler wins." in verdict.sentence
    faster = finalist("hybrid", [32.0] * 8, [0.2] * 8)
    assert decide([simple, faster], REFERENCE, Target(psnr=30)).chosen is faster


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "No method of two models keeps to it."),
        (["hybrid"], "The best of two models, hybrid, 12 steps of 28: "),
    ],
)
def test_where_large_is_chosen_the_sentence_says_what_two_models_do(others, words):
    large = finalist("large", [30.0] * 8, [0.4] * 8, steps=11)
    verdict = decide(
        [large, *(finalist(other, [25.0] * 8, [0.4] * 8) for other in others)], REFERENCE, Target(speedup=2)
    )
    assert words in verdict.sentence


def test_where_large_with_fewer_steps_cannot_keep_to_it_the_sentence_says_so():
    verdict = decide([finalist("hybrid", [25.0] * 8, [0.4] * 8)], REFERENCE, Target(speedup=2))
    assert verdict.sentence.endswith("Large with fewer steps does not keep to it.")
