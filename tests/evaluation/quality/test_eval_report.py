"""Rows of an evaluation, from made-up records."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.quality.bootstrap import interval
from hybridstitch.evaluation.quality.eval_report import rows_of
from hybridstitch.evaluation.variants import HYBRID, LARGE, large_at

CASES = [PromptCase(f"case {index}", index) for index in range(6)]


def record(seconds: float, psnr: float | None = None, right: bool = True) -> dict[str, Any]:
    found = {"seconds": seconds, "right": {"shape": [right, True], "all": [right]}, "features": [seconds, 1.0]}
    return found if psnr is None else found | {"psnr": psnr, "ssim": 0.5}


class Made:
    """Records of so many cases by their variants' names."""

    def __init__(self, lines: Mapping[str, Sequence[dict[str, Any] | None]]) -> None:
        self.lines = lines

    def find(self, variant, case):
        return self.lines[variant.name][case.seed]


def rows(lines, judged=True):
    variants = [*(large_at(steps) for steps in (12, 6) if f"large@{steps}" in lines), HYBRID]
    true = np.random.default_rng(0).normal(size=(20, 2)) if judged else None
    return {row.variant.name: row for row in rows_of(cast("Any", Made(lines)), LARGE, variants, CASES, true)}


def test_a_variant_stands_beside_the_control_of_the_same_time_in_proportion_between_two_numbers_of_steps():
    found = rows(
        {
            "large": [record(4.0) for _ in CASES],
            "large@12": [record(2.0, 30.0 + case.seed) for case in CASES],
            "large@6": [record(1.0, 20.0 + case.seed, right=False) for case in CASES],
            "hybrid": [record(1.5, 26.0 + case.seed) for case in CASES],
        }
    )
    beside = found["hybrid"].beside_control
    assert beside["psnr"] == interval([1.0] * 6)  # the control: 25 in 1.5 s, whatever is hard about a case
    assert beside["all_right"] == interval([0.5] * 6)
    assert found["hybrid"].speedup == pytest.approx(4 / 1.5)
    assert found["large@12"].beside_control == {}
    assert "psnr" not in found["large"].means


def test_a_variant_stands_beside_the_control_of_as_many_operations_whatever_the_seconds_of_a_busy_machine():
    lines = {
        "large": [record(4.0) for _ in CASES],
        "large@12": [record(9.0, 30.0) for _ in CASES],
        "large@6": [record(1.0, 20.0, right=False) for _ in CASES],
        "hybrid": [record(20.0, 26.0) for _ in CASES],
    }
    operations = {"large": 28.0, "large@12": 12.0, "large@6": 6.0, "hybrid": 9.0}
    variants = [large_at(12), large_at(6), HYBRID]
    true = np.random.default_rng(0).normal(size=(20, 2))
    counted = rows_of(cast("Any", Made(lines)), LARGE, variants, CASES, true, operations)
    found = {row.variant.name: row for row in counted}
    assert found["hybrid"].beside_control["psnr"] == interval([1.0] * 6)  # 25 at 9 operations
    assert found["hybrid"].speedup == pytest.approx(28 / 9)
    assert (found["hybrid"].cost, found["hybrid"].seconds) == (9.0, 20.0)
    assert found["hybrid"].as_json()["operations"] == 9.0
    assert found["large@6"].beside_control == {}
    assert rows(lines)["hybrid"].beside_control["psnr"] is None  # by seconds no number of steps takes that long


def test_beside_the_large_model_on_a_grid_a_variant_stands_too_and_the_grid_beside_the_control():
    lines = {
        "large": [record(4.0) for _ in CASES],
        "large@12": [record(2.0, 30.0) for _ in CASES],
        "large@6": [record(1.0, 20.0, right=False) for _ in CASES],
        "g12": [record(2.0, 33.0) for _ in CASES],
        "g6": [record(1.0, 23.0, right=False) for _ in CASES],
        "hybrid": [record(1.5, 27.0) for _ in CASES],
    }
    on_grid = [LARGE.but(f"g{steps}", steps=steps, grid=28) for steps in (12, 6)]
    variants = [large_at(12), large_at(6), *on_grid, HYBRID]
    found = {row.variant.name: row for row in rows_of(cast("Any", Made(lines)), LARGE, variants, CASES)}
    assert found["hybrid"].beside_control["psnr"] == interval([2.0] * 6)
    assert found["hybrid"].beside_grid["psnr"] == interval([-1.0] * 6)
    assert found["g12"].beside_control["psnr"] == interval([3.0] * 6)
    assert found["g12"].beside_grid == found["large@6"].beside_grid == {}


def test_what_is_faster_or_slower_than_every_control_has_none():
    for seconds in (0.5, 3.0):  # beyond 12 steps there is only large itself, which is at no distance from itself
        lines = {
            "large": [record(4.0) for _ in CASES],
            "large@12": [record(2.0, 30.0) for _ in CASES],
            "large@6": [record(1.0, 20.0) for _ in CASES],
            "hybrid": [record(seconds, 26.0) for _ in CASES],
        }
        assert rows(lines)["hybrid"].beside_control["psnr"] is None


def test_only_cases_that_every_variant_was_drawn_for_count():
    lines = {"large": [record(1.0) for _ in CASES], "hybrid": [record(1.0, float(case.seed)) for case in CASES]}
    lines["hybrid"][5] = cast("Any", None)
    assert rows(lines)["hybrid"].means["psnr"].mean == pytest.approx(2.0)


def test_attributes_are_shares_of_objects_and_all_right_of_pictures():
    lines = {
        "large": [record(1.0) for _ in CASES],
        "hybrid": [record(1.0, 1.0, right=case.seed < 3) for case in CASES],
    }
    hybrid = rows(lines)["hybrid"]
    assert hybrid.accuracy == {"shape": 0.75, "all": 0.5}
    assert hybrid.all_right is not None
    assert hybrid.all_right.mean == 0.5
    assert rows(lines, judged=False)["hybrid"].accuracy is None


def test_an_interval_holds_its_mean_narrows_with_more_pictures_and_is_always_the_same():
    values = np.random.default_rng(1).normal(size=400)
    few, many = interval(values[:20]), interval(values)
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 2
    assert interval(values) == many
    assert interval(values + 5).excludes(0)
    assert not many.excludes(float(values.mean()))
    with pytest.raises(ValueError, match="one number a picture"):
        interval([])
