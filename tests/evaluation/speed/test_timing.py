"""Variants take turns, and what each took is told by medians and quartiles."""

from types import SimpleNamespace
from typing import Any

import pytest

from hybridstitch.evaluation.speed.timing import Measured, interleave
from hybridstitch.evaluation.variants import LARGE, SMALL, hybrid_at, in_steps, large_at, paper_at
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.timing import TimeSpent, Timing

CASES: list[Any] = [SimpleNamespace(prompt="a star", seed=3), SimpleNamespace(prompt="a ring", seed=4)]


class Clockwork:
    """A pipe whose k-th picture takes k seconds, a tenth of them outside engines. calls: method, prompt and seed."""

    def __init__(self):
        self.calls = []

    def resolve(self, prompts, *, seed, method, **_):
        if method == "none":
            raise HybridStitchError("unknown method 'none'")

    def __call__(self, prompt, *, seed, method):
        self.calls.append((method, prompt, seed))
        total = float(len(self.calls))
        return SimpleNamespace(
            timing=Timing({"decode": TimeSpent(1, total / 2)}, {"all": TimeSpent(1, total * 0.9)}, total)
        )


def test_variants_warm_up_first_and_then_take_turns_at_each_case():
    pipe: Any = Clockwork()
    told = []
    found = interleave(
        pipe, [LARGE, SMALL], CASES, 2, on_picture=lambda variant, case, turn, _: told.append((variant.name, turn))
    )
    assert pipe.calls[:2] == [("large", "a star", 3), ("small", "a star", 3)]
    turns = [("large", "a star", 3), ("small", "a star", 3), ("large", "a ring", 4), ("small", "a ring", 4)]
    assert pipe.calls[2:] == turns * 2
    assert told == [("large", 0), ("small", 0)] * 2 + [("large", 1), ("small", 1)] * 2
    assert found["large"].seconds == (3, 5, 7, 9)
    assert found["small"].seconds == (4, 6, 8, 10)
    assert found["large"].median == 6
    assert found["large"].stages == {"decode": 3}
    assert found["small"].overhead == pytest.approx(0.1)


def test_a_variant_that_cannot_be_drawn_is_refused_before_anything_is():
    pipe: Any = Clockwork()
    with pytest.raises(HybridStitchError, match="unknown method 'none'"):
        interleave(pipe, [LARGE, LARGE.but(method="none")], CASES, 1)
    assert not pipe.calls


def test_quartiles_are_those_of_all_pictures():
    assert Measured((1.0, 2.0, 3.0, 4.0, 5.0), {}, 0.0).quartiles == (2.0, 4.0)


def test_a_variant_is_named_after_what_it_changes():
    assert (large_at(12).name, large_at(12).settings) == ("large@12", {"method": "large", "steps": 12})
    assert hybrid_at(0.5).name == "hybrid@0.5"
    paper = paper_at(0.3, 28)
    assert (paper.name, paper.settings["residual"], paper.settings["sketch"]) == ("hybrid-paper@0.3", "off", "small")
    assert (paper.settings["large_steps"], paper.settings["hybrid_steps"]) == (6, 8)
    assert [paper_at(0.3, steps).settings["hybrid_steps"] for steps in (1, 2)] == [0, 1]
    short = in_steps(hybrid_at(0.15), 12)
    assert (short.name, dict(short.settings)) == (
        "hybrid@0.15, 12 steps",
        {"method": "hybrid", "mask_ratio": 0.15, "steps": 12},
    )
