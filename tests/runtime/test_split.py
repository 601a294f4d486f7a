"""Pictures of a pair whose sizes have plans of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybridstitch import HybridStitch, HybridStitchError
from hybridstitch.cli import main
from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.executors.split_engine import SplitEngine
from hybridstitch.engines.open import BuiltPair
from hybridstitch.method.settings import SamplingSettings
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.verify.verify_pair import verify_pair

PROMPT = "a large plain green heart on a grey background"
QUICK: SamplingSettings = {"steps": 6, "large_steps": 2, "hybrid_steps": 2}
SIZES = ("128x128", "160x96", "96x160")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """The demo pair's recipe with plans for each size, as a user writes it."""
    shipped = Path(Recipe.load("demo").folder) / "demo.toml"
    text = shipped.read_text().replace("[profiles]\n", '[profiles]\nplans = "per-size"\n')
    file = tmp_path_factory.mktemp("recipe") / "split.toml"
    file.write_text(text.replace('path = "demo/', f'path = "{shipped.parent}/demo/'))
    return file


@pytest.fixture(scope="module")
def engines(recipe, demo_onnx, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("split") / "engines"
    build_pair(Recipe.load(recipe), demo_onnx, folder)
    return folder


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the plans that were opened, in order."""
    names: list[str] = []
    whole = BuiltPair.open_plan

    def open_plan(pair, manifest):
        names.append(manifest.name)
        return whole(pair, manifest)

    monkeypatch.setattr(BuiltPair, "open_plan", open_plan)
    return names


def test_pictures_are_to_the_last_bit_those_of_one_plan_and_only_the_plans_of_their_size_are_opened(
    recipe, engines, pipe, opened
):
    with HybridStitch.load(recipe, engines=engines) as split:
        assert opened == ["text_encoder", "text_encoder_2"]
        for size in SIZES:
            drawn = [engine(PROMPT, seed=3, size=size, **QUICK).images[0].tobytes() for engine in (split, pipe)]
            assert drawn[0] == drawn[1]
            names = [name for name in opened if name.endswith(size)]
            transformers = [] if size == "96x160" else [f"large@{size}", f"small@{size}"]  # that of 160x96 holds it
            assert sorted(names) == [*transformers, f"vae_decoder@{size}"]


def test_of_another_size_than_the_last_one_no_plan_stays_open(recipe, engines):
    with HybridStitch.load(recipe, engines=engines) as split:
        requests = [split.resolve([PROMPT], size=size, **QUICK)[0] for size in ("128x128", "160x96")]
        split.run([*requests, requests[0]])
        large, decoder = split.engines["large"], split.engines["vae_decoder"]
        assert isinstance(large, SplitEngine)
        assert isinstance(decoder, SplitEngine)
        assert (list(large._engines), list(decoder._engines)) == (["large@160x96"], ["vae_decoder@160x96"])
        more: SamplingSettings = {**QUICK, "mask_ratio": 0.5}
        split(PROMPT, size="160x96", **more)
        assert list(large._engines) == ["large@160x96"]
        assert {key.lengths.size for key in split._kept} == {Size(160, 96)}


def test_every_plan_is_verified(recipe, engines):
    report = verify_pair(recipe, engines=engines, quick=True, components=["small", "vae_decoder"])
    assert report.ok
    names = [(profile.component, profile.profile) for profile in report.profiles]
    full = [("small", "full-128x128"), ("small", "full-160x96")]
    assert names == [*full, *(("vae_decoder", f"full-{size}") for size in SIZES)]


def test_inspect_lists_every_plan_and_counts_the_weights_of_one_size(recipe, engines, demo_engines, capsys):
    reports = []
    for pair, folder in ((recipe, engines), ("demo", demo_engines)):
        assert main(["inspect", "--pair", str(pair), "--engines", str(folder), "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    split, one = reports
    assert {"large@128x128", "large@160x96", "vae_decoder@96x160", "text_encoder"} <= split["engines"].keys()
    for row, known in zip(split["memory"], one["memory"], strict=True):
        assert row == known


def test_what_is_split_otherwise_than_its_recipe_says_is_refused_with_the_command(
    recipe, engines, demo_engines, capsys
):
    for pair, folder, words in (
        ("demo", engines, "holds a plan for each size of large, and the recipe asks for plans = 'one'"),
        (recipe, demo_engines, "holds one plan for all sizes of large, and the recipe asks for plans = 'per-size'"),
    ):
        for command in ("inspect", "verify", "run"):
            extra = ["--prompt", PROMPT] if command == "run" else []
            assert main([command, "--pair", str(pair), "--engines", str(folder), *extra]) == 2
            told = capsys.readouterr().err
            assert words in told
            assert f"Build it again: hybridstitch-trt build --pair {pair} --backend onnxruntime" in told


def test_an_unknown_division_is_told_with_those_that_there_are(recipe, tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(recipe.read_text().replace('"per-size"', '"each"'))
    with pytest.raises(HybridStitchError, match=r"profiles\.plans: Input should be 'one' or 'per-size', not 'each'"):
        Recipe.load(wrong)
