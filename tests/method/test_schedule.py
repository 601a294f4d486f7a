"""The stage of a step, at every boundary."""

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.schedule import Schedule, Stage

L, H, S = Stage.LARGE, Stage.HYBRID, Stage.SMALL


def stages(schedule: Schedule) -> list[Stage]:
    return [schedule.stage(step) for step in range(schedule.steps)]


@pytest.mark.parametrize(
    ("large_until", "hybrid_until", "expected"),
    [
        (2, 4, [L, L, H, H, S]),
        (1, 5, [L, H, H, H, H]),
        (3, 3, [L, L, L, S, S]),
        (5, 5, [L, L, L, L, L]),
        (0, 0, [S, S, S, S, S]),
        (4, 5, [L, L, L, L, H]),
    ],
)
def test_stages_are_half_open(large_until, hybrid_until, expected):
    assert stages(Schedule(5, large_until, hybrid_until)) == expected


def test_t_stitch_is_the_same_plan_in_the_other_order():
    assert stages(Schedule(5, 2, 2, small_first=True)) == [S, S, S, L, L]


def test_a_refresh_follows_every_r_hybrid_steps():
    schedule = Schedule(10, 2, 9, refresh_every=2)
    assert [schedule.runs_full(step) for step in range(10)] == [True, True, *[False, False, True] * 2, False, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0, 0), "steps must be a whole number from 1 to 1000, not 0"),
        ((5, 3, 6), "3 large and 3 hybrid steps do not fit into 5 steps"),
        ((5, -1, 2), "-1 large"),
        ((5, 5, 5, False, 0, 4), "grid must be 0 or at least the steps, 5, not 4"),
        ((5, 0, 2), "needs at least 1 large step before it"),
        ((5, 1, 2, True), "needs at least 1 large step before it"),
        ((5, 1, 2, False, -1), "refresh_every must be a whole number of at least 0, not -1"),
    ],
)
def test_an_impossible_schedule_is_refused_in_one_line(arguments, words):
    with pytest.raises(HybridStitchError, match=words) as caught:
        Schedule(*arguments)
    assert "\n" not in str(caught.value)


def test_adaptive_ends_move_the_boundaries():
    schedule = Schedule(8, 8, 8).end_large(3, hybrid=True)
    assert stages(schedule) == [L] * 3 + [H] * 5
    assert stages(schedule.end_hybrid(5)) == [L] * 3 + [H] * 2 + [S] * 3
    assert stages(Schedule(8, 8, 8).end_large(3, hybrid=False)) == [L] * 3 + [S] * 5
