"""Successive halving on made-up objectives whose best is known."""

import random
from statistics import mean

import pytest

from hybridstitch.evaluation.tuning.search import OutOfTime, Rung, affordable, draws, halve, rungs


def search(candidates, cases, draw, *, group=lambda _: 0, finalists=4):
    return halve(candidates, cases, draw, lambda _, scores: -mean(scores), group=group, finalists=finalists)


def test_the_best_of_many_is_found_through_noise_with_a_fraction_of_the_draws():
    drawn = []

    def draw(candidate, case):
        drawn.append((candidate, case))
        return -abs(candidate - 37) + random.Random(1000 * candidate + case).gauss(0, 1)

    found = search(range(100), 16, draw)
    assert found.ranked[0] == 37
    assert found.complete
    assert len(drawn) == len(set(drawn)) < 100 * 16 / 3
    assert len(found.scores[37]) == 16


def test_every_candidate_is_tried_and_those_that_go_on_have_seen_the_same_cases():
    found = search(range(30), 8, lambda candidate, case: candidate + case)
    assert all(len(scores) >= 2 for scores in found.scores.values())
    assert {len(found.scores[candidate]) for candidate in found.ranked} == {8}
    assert found.ranked[:4] == [29, 28, 27, 26]


def test_some_of_every_group_go_on_however_they_do():
    found = search(range(30), 8, lambda candidate, _: candidate, group=lambda candidate: candidate < 3)
    assert [candidate for candidate in found.ranked if candidate < 3] == [2, 1]


def test_when_time_is_out_the_cases_that_all_have_seen_decide():
    left = iter(range(65))

    def draw(candidate, case):
        if next(left, None) is None:
            raise OutOfTime
        return candidate if case < 2 else -candidate

    found = search(range(30), 8, draw)
    assert not found.complete
    assert found.ranked[0] == 29
    assert {len(found.scores[candidate]) for candidate in found.ranked} == {2}


@pytest.mark.parametrize("draws_left", [0, 1, 5])
def test_when_time_is_out_at_the_first_case_those_that_were_drawn_are_ranked(draws_left):
    left = iter(range(draws_left))

    def draw(candidate, _):
        if next(left, None) is None:
            raise OutOfTime
        return candidate

    found = search(range(30), 8, draw)
    assert found.ranked == list(range(draws_left))[::-1]
    assert not found.complete


def test_rungs_lead_from_all_candidates_to_the_finalists_and_all_cases():
    assert rungs(30, 8, 4) == [Rung(30, 2), Rung(10, 4), Rung(4, 8)]
    assert rungs(2, 1, 4) == [Rung(2, 1)]
    assert draws(rungs(30, 8, 4)) == 30 * 2 + 10 * 2 + 4 * 4


def test_a_search_begins_with_as_many_as_there_is_time_for():
    most = affordable(1000, 8, 4, 200)
    assert draws(rungs(most, 8, 4)) <= 200 < draws(rungs(most + 1, 8, 4))
    assert affordable(10, 8, 4, 10_000) == 10
    assert affordable(10, 8, 4, -5) == 1
