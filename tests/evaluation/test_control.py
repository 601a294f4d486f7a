"""The control of a method is the large model alone in the steps that cost the same time."""

from types import SimpleNamespace
from typing import Any

import pytest

from hybridstitch.evaluation.control import find_controls, nearest_control, nearest_steps, shares
from hybridstitch.evaluation.speed.timing import Measured
from hybridstitch.evaluation.variants import HYBRID, LARGE, SMALL
from hybridstitch.runtime.timing import TimeSpent, Timing


def seconds(steps: int) -> float:
    """A tenth of a second for text and picture, and as much for each step."""
    return 0.1 + 0.1 * steps


@pytest.mark.parametrize(
    ("target", "steps"),
    [(0.0, 1), (0.2, 1), (0.24, 1), (0.26, 2), (1.1, 10), (1.16, 11), (2.84, 27), (2.9, 28), (9.0, 28)],
)
def test_the_steps_whose_time_is_nearest_are_found(target, steps):
    assert nearest_steps(seconds, target, 28) == steps


def test_between_two_that_are_as_near_the_control_gets_the_longer():
    assert nearest_steps(float, 12.5, 28) == 13
    assert nearest_control(12.5, {"large@12": 12.0, "large@13": 13.0}) == "large@13"


def test_only_a_handful_of_step_counts_are_measured():
    asked = []
    nearest_steps(lambda steps: asked.append(steps) or float(steps), 300.4, 1000)
    assert len(set(asked)) <= 12


def test_a_machine_that_slows_down_in_the_middle_changes_no_share():
    measured = {
        "large": Measured((1.0, 4.0, 1.0), {}, 0.0),
        "small": Measured((0.25, 1.0, 0.25), {}, 0.0),
    }
    assert shares(measured, "large") == {"large": 1.0, "small": 0.25}


PACE = {"large": 1.0, "small": 0.3, "hybrid": 0.52}


class Paced:
    """A pipe whose methods take so long for each step, of which there are 20. drawn: method and steps."""

    def __init__(self):
        self.drawn = []

    def resolve(self, *_, **__): ...

    def __call__(self, _, *, seed, method, steps=20):
        self.drawn.append((method, steps))
        return SimpleNamespace(timing=Timing({"text": TimeSpent()}, {}, PACE[method] * steps))


def test_controls_are_found_by_measuring_each_step_count_once():
    pipe: Any = Paced()
    cases: Any = [SimpleNamespace(prompt="a star", seed=1)]
    assert find_controls(pipe, LARGE, [HYBRID, SMALL], cases, 20) == {"hybrid": 10, "small": 6}
    shorter = [steps for method, steps in pipe.drawn if method == "large" and steps < 20]
    assert all(shorter.count(steps) == 3 for steps in shorter)  # once unmeasured, then twice
