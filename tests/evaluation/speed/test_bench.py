"""Every method beside the large model: what is measured, and what is said of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from hybridstitch.evaluation import figure
from hybridstitch.evaluation.cases import DEMO_CASES
from hybridstitch.evaluation.quality.closeness import psnr
from hybridstitch.evaluation.speed import bench as benches
from hybridstitch.evaluation.speed.bench import BenchOptions, bench, contestants, measure_rows
from hybridstitch.evaluation.speed.bench_report import Row
from hybridstitch.evaluation.speed.plot import plot_bench
from hybridstitch.evaluation.speed.timing import Measured
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.timing import TimeSpent, Timing

NAMED = ["large", "large@fewer", "small", "srdiffusion", "t-stitch", "hybrid@0.15", "hybrid@0.3", "hybrid@0.5"]


def test_the_json_has_every_method_with_seconds_speedup_overhead_and_closeness(bench_report):
    found = json.loads(json.dumps(bench_report.as_dict()))
    assert {*NAMED, "hybrid", "hybrid-paper@0.3", "hybrid, 2 steps", "large@2"} <= set(found["methods"])
    for name, row in found["methods"].items():
        assert row["seconds"] > 0
        assert row["speedup"] == pytest.approx(found["methods"]["large"]["seconds"] / row["seconds"], rel=0.02)
        assert 0 <= row["overhead"] < 1
        assert (row["psnr_to_large_db"] is None) is ("large" in (name, row.get("same_as"))), name
        assert row["seconds_quartiles"][0] <= row["seconds"] <= row["seconds_quartiles"][1]
    assert found["methods"]["large"]["speedup"] == 1
    assert found["methods"]["small"]["speedup"] > 1
    assert set(found["methods"]["hybrid-paper@0.3"]["stages"]) == {"text", "large", "hybrid", "small", "decode"}
    assert found["diffusers"] == {"eager": None, "compile": None, "large": None}
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["torch"]
    assert found["command"] == "hybridstitch-trt bench"
    assert (found["steps"], found["guidance"], len(found["cases"])) == (4, 5.0, 2)


def test_every_row_names_the_steps_in_which_large_takes_as_long(bench_report):
    rows = {row.name: row for row in bench_report.rows}
    controls = [row for row in bench_report.rows if row.parameters["method"] == "large"]
    for row in rows.values():
        if row.parameters["method"] == "large":
            assert row.control is None
            continue
        nearest = min(abs(control.measured.median - row.measured.median) for control in controls)
        assert abs(rows[row.control or ""].measured.median - row.measured.median) == nearest
    fewer = bench_report.as_dict()["methods"]["large@fewer"]
    assert fewer["same_as"] == rows["hybrid"].control
    assert fewer["seconds"] == bench_report.as_dict()["methods"][fewer["same_as"]]["seconds"]


def test_asked_for_nothing_each_method_has_the_recipes_steps_and_the_papers_plan_all_of_them(pipe):
    chosen = contestants(pipe, DEMO_CASES[:1], BenchOptions()).parameters
    assert chosen["large"].schedule.steps == chosen["hybrid-paper@0.3"].schedule.steps == 28
    assert chosen["hybrid"].schedule.steps == pipe.recipe.settings("hybrid")["steps"]
    assert chosen["hybrid-paper@0.3, 12 steps"].schedule.steps == 12
    assert "hybrid, 12 steps" not in chosen  # it has 12 by itself


def test_two_names_of_one_plan_are_drawn_once(bench_report):
    rows = {row.name: row for row in bench_report.rows}
    assert rows["hybrid@0.3"].same_as == "hybrid"
    assert rows["hybrid@0.3"].measured is rows["hybrid"].measured
    assert rows["hybrid@0.5"].same_as is None


def test_closeness_is_to_the_large_models_picture_in_all_steps(bench_report, pipe):
    for name, settings in {"small": {"method": "small"}, "large@2": {"method": "large", "steps": 2}}.items():
        expected = []
        for case in DEMO_CASES[:2]:
            one, large = (
                pipe(case.prompt, seed=case.seed, **{"steps": 4, **found}).images[0]
                for found in (settings, {"method": "large"})
            )
            expected.append(psnr(one, large))
        assert bench_report.row(name).closeness == pytest.approx(tuple(expected))


def test_masked_calls_stand_beside_their_operations_and_ascend(bench_report):
    found = bench_report.as_dict()["masked_call"]
    ratios = [call["ratio"] for call in found]
    assert ratios == sorted(ratios)
    assert {0.1875, 0.3125, 0.5} <= set(ratios)  # 0.15, 0.3 and 0.5 of 256 tokens in whole buckets of 16
    for call in found:
        assert call["ratio"] < call["flops_share"] < 1
        assert 0 < call["share_of_full"] < 2
    engines = bench_report.as_dict()["engines"]
    assert {"large", "small", "text_encoder", "text_encoder_2", "vae_decoder", "masked 31%"} <= set(engines)
    assert engines["large"]["calls_per_second"] == pytest.approx(1 / engines["large"]["seconds"], rel=0.01)


class Paced:
    """A pipe in which large takes 4 seconds for a picture and small 1, half of it outside engines."""

    def resolve(self, prompts: list[str], *, seed: int, method: str, **_: Any) -> list[Any]:
        return [SimpleNamespace(parameters=SimpleNamespace(as_dict=lambda: {"method": method}))]

    def __call__(self, prompt: str, *, seed: int, method: str, **_: Any) -> Any:
        total = {"large": 4.0, "small": 1.0}[method]
        timing = Timing({"decode": TimeSpent(1, total)}, {"all": TimeSpent(1, total / 2)}, total)
        picture = Image.new("RGB", (4, 4), (0, 0, 0) if method == "large" else (10, 10, 10))
        return SimpleNamespace(timing=timing, images=[picture])


def test_medians_speedup_overhead_and_closeness_of_made_up_pictures():
    pipe: Any = Paced()
    variants = [benches.LARGE, benches.SMALL]
    chosen: Any = {found.name: pipe.resolve([""], seed=0, **found.settings)[0].parameters for found in variants}
    large, small = measure_rows(pipe, benches._Field(variants, chosen, {}), DEMO_CASES[:3], 2)
    assert (large.measured.median, small.measured.median) == (4, 1)
    assert (large.speedup, small.speedup) == (1, 4)
    assert small.speedups == (4,) * 6
    assert small.measured.overhead == 0.5
    assert small.closeness == pytest.approx((28.1308,) * 3, abs=1e-4)
    assert small.psnr_error == pytest.approx(0)
    assert large.psnr is None


def test_the_error_of_closeness_is_the_standard_error_of_its_mean():
    row = Row("x", {}, Measured((1.0,), {}, 0.0), 1, (1.0,), (0.0,), closeness=(20.0, 22.0, 24.0))
    assert row.psnr == 22
    assert row.psnr_error == pytest.approx(2 / 3**0.5)


def test_a_ratio_that_no_profile_holds_is_refused_by_its_name_before_anything_is_drawn(pipe, monkeypatch):
    resolve = pipe.requests.resolve

    def narrow(prompt, **wanted):
        if wanted.get("mask_ratio") == 0.45:
            raise HybridStitchError("large engine: 128 tokens; it takes 16-80")
        return resolve(prompt, **wanted)

    monkeypatch.setattr(pipe.requests, "resolve", narrow)
    monkeypatch.setattr(pipe, "run", lambda *_, **__: pytest.fail("something was drawn"))
    with pytest.raises(HybridStitchError, match=r"^hybrid@0.45: large engine: 128 tokens"):
        bench(pipe, DEMO_CASES[:1], BenchOptions(ratios=(0.45,)), [])


def test_fewer_steps_must_be_fewer(pipe):
    with pytest.raises(HybridStitchError, match="fewer steps must be fewer than 6, not 6"):
        contestants(pipe, DEMO_CASES[:1], BenchOptions(steps=6, fewer_steps=6))


def test_the_plots_show_every_method_and_the_masked_calls(bench_report, tmp_path):
    paths = plot_bench(bench_report, tmp_path)
    assert [path.name for path in paths] == ["closeness.png", "masked-call.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths:
        assert Image.open(path).size == (960, 600)


def test_a_plot_that_cannot_be_written_leaves_nothing_half_written(bench_report, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        plot_bench(bench_report, tmp_path)
    assert not list(tmp_path.iterdir())


def test_plots_without_matplotlib_say_what_to_install(monkeypatch):
    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(figure.importlib, "import_module", gone)
    with pytest.raises(HybridStitchError, match=r"plots need matplotlib: pip install hybridstitch-trt\[evaluation\]"):
        figure.require_matplotlib()
