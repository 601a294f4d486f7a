"""A component with a plan for each picture size: what is built, what is opened, and that nothing else changes."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hybridstitch.engines.builders.build_pair import BuildReport, build_pair
from hybridstitch.engines.builders.options import BuildOptions
from hybridstitch.engines.executors import tensorrt_engine
from hybridstitch.engines.executors.engine import Engine, run_once
from hybridstitch.engines.executors.onnxruntime_engine import OnnxRuntimeEngine
from hybridstitch.engines.executors.split_engine import SplitEngine
from hybridstitch.engines.executors.tensorrt_engine import TensorRTEngine
from hybridstitch.engines.open import BuiltPair, find_pair, open_pair
from hybridstitch.engines.plans import joined, plan_for
from hybridstitch.engines.profiles import best_profile
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import Checkpoint, Recipe

from . import fake_tensorrt
from .handmade import make_recipe, open_engine, random_inputs, write_component, write_export

NEEDED = ("large", "small")
SIZES = ("32x32", "32x24")
NAMES = [f"{name}@{size}" for name in NEEDED for size in SIZES]


def build(export: Path, folder: Path, sizes: Sequence[str] = SIZES, **profiles: object) -> BuildReport:
    return build_pair(make_recipe(sizes=list(sizes), **{"plans": "per-size", **profiles}), export, folder)


def states(report: BuildReport) -> dict[str, str]:
    return {component.component: component.state for component in report.components}


def opened(folder: Path, **options) -> BuiltPair:
    return open_pair(folder, pair="mini", backend="onnxruntime", **{"needed": NEEDED, **options})


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "onnx")


@pytest.fixture
def folder(export: Path, tmp_path: Path) -> Path:
    """A pair with a plan for each size, to be changed."""
    build(export, tmp_path / "mini" / "onnxruntime")
    return tmp_path / "mini" / "onnxruntime"


@pytest.fixture
def engine(folder) -> Engine:
    return opened(folder).engine("large")


@pytest.fixture
def plans(monkeypatch) -> list[str]:
    """The names of the plans that are open, in the order in which they were opened."""
    names: list[str] = []
    start, stop = OnnxRuntimeEngine.__init__, OnnxRuntimeEngine.close

    def opens(engine, manifest, *rest, **options):
        start(engine, manifest, *rest, **options)
        names.append(manifest.name)

    def closes(engine):
        stop(engine)
        names.remove(engine.manifest.name)

    monkeypatch.setattr(OnnxRuntimeEngine, "__init__", opens)
    monkeypatch.setattr(OnnxRuntimeEngine, "close", closes)
    return names


def test_each_size_has_a_plan_with_its_own_profiles_and_manifest(folder):
    store = Store(folder)
    assert store.names() == sorted(NAMES)
    for size, tokens in zip(SIZES, (16, 12), strict=True):
        manifest = store.manifest(f"large@{size}")
        assert (manifest.component, manifest.part) == ("large", size)
        assert [profile.name for profile in manifest.profiles][:2] == [f"full-{size}", f"masked-15-{size}"]
        assert manifest.profiles[0].ranges["M"] == (tokens, tokens, tokens)
        assert {scratch.lengths["M"] for scratch in manifest.scratch} == {tokens}


def test_what_a_size_does_not_change_is_one_plan_for_all(demo_onnx, tmp_path):
    demo = Recipe.load("demo")
    split = demo.model_copy(update={"profiles": demo.profiles.model_copy(update={"plans": "per-size"})})
    report = build_pair(split, demo_onnx, tmp_path, components=["text_encoder", "vae_decoder"])
    assert list(states(report)) == ["text_encoder", *(f"vae_decoder@{size}" for size in demo.profiles.sizes)]


def test_a_size_that_is_added_is_built_alone_and_one_that_is_removed_goes_alone(export, folder):
    added = build(export, folder, (*SIZES, "16x16"))
    assert states(added) == {
        **dict.fromkeys(NAMES, "unchanged"),
        **{f"{name}@16x16": "built" for name in NEEDED},
    }
    removed = build(export, folder, ("32x32", "16x16"))
    assert set(states(removed).values()) == {"unchanged"}
    assert not list(folder.glob("*@32x24"))
    assert Store(folder).names("large") == ["large@16x16", "large@32x32"]


def test_sizes_of_equally_many_tokens_share_a_plan(export, tmp_path):
    build(export, tmp_path, ("32x32", "32x24", "24x32"))
    assert Store(tmp_path).names("large") == ["large@32x24", "large@32x32"]


def test_calls_give_to_the_last_bit_what_the_one_plan_gives(built, engine):
    one = open_engine(built, "large", backend="onnxruntime").session()
    split = engine.session()
    for tokens, frozen in [(16, 0), (4, 12), (12, 0), (5, 7), (15, 1)]:
        inputs = random_inputs(2, tokens, frozen)
        expected = run_once(one, inputs)
        for name, output in run_once(split, inputs).items():
            assert torch.equal(output, expected[name])


def test_a_plan_is_opened_when_a_call_needs_it_and_the_one_before_is_closed(plans, engine):
    session = engine.session()
    assert plans == []
    run_once(session, random_inputs(2, 16, 0))
    run_once(session, random_inputs(2, 4, 12))
    assert plans == ["large@32x32"]
    run_once(session, random_inputs(2, 12, 0))
    assert plans == ["large@32x24"]
    run_once(session, random_inputs(2, 16, 0))
    assert plans == ["large@32x32"]
    engine.close()
    assert plans == []


def test_a_call_that_somebody_holds_keeps_its_plan_open(plans, engine):
    session = engine.session()
    call = session.bind(random_inputs(2, 16, 0))
    run_once(engine.session(), random_inputs(2, 12, 0))
    call.run()
    assert plans == ["large@32x32", "large@32x24"]
    del call
    gc.collect()
    engine.close()
    assert plans == []


def test_a_masked_call_runs_in_the_plan_of_its_picture_although_another_is_tuned_for_lengths_as_near(export, tmp_path):
    recipe = make_recipe("64x64", sizes=["64x64", "64x56"], mask_ratios=[0.5], plans="per-size")
    build_pair(recipe, export, tmp_path)
    plans = Store(tmp_path).plans("large")
    lengths = {"B": 2, "M": 28, "F": 36, "T": 3}  # of 64 tokens
    nearest = best_profile(joined(plans).profiles, lengths)
    assert nearest is not None
    assert joined(plans).profiles[nearest].name == "masked-50-64x56"
    assert plan_for(plans, lengths).part == "64x64"


def test_keys_of_a_full_call_in_one_plan_serve_a_masked_call_in_another(engine, built):
    """They are tensors: no plan owns them."""
    full = engine.session().bind(random_inputs(2, 12, 0))
    full.run()
    inputs = random_inputs(2, 4, 12)
    inputs |= {f"frozen_{kind}.0": full.outputs[f"{kind}.0"] for kind in ("key", "value")}
    masked = engine.session().bind(inputs)
    masked.run()
    one = run_once(open_engine(built, "large", backend="onnxruntime").session(), inputs)
    assert torch.equal(masked.outputs["velocity"], one["velocity"])


def test_lengths_outside_every_plan_are_refused_with_all_that_there_are(plans, engine):
    with pytest.raises(HybridStitchError, match="large engine: 20 tokens; this plan has 1-16"):
        engine.session().bind(random_inputs(2, 20, 0))
    with pytest.raises(
        HybridStitchError, match="no profile holds 14 tokens with 0 frozen tokens; this plan has full-32x24"
    ):
        engine.session().bind(random_inputs(2, 14, 0))
    assert plans == []


def test_a_closed_engine_says_so(engine):
    session = engine.session()
    call = session.bind(random_inputs(2, 16, 0))
    engine.close()
    for use in (engine.session, lambda: session.bind(random_inputs(2, 16, 0)), call.run):
        with pytest.raises(HybridStitchError, match="the large engine is closed"):
            use()


def test_a_damaged_plan_of_a_size_that_nobody_draws_is_told_before_any_plan_is_read(plans, folder):
    plan = next((folder / "small@32x24").glob("plan-*"))
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(HybridStitchError, match=r"small@32x24/plan-\S+ is cut short"):
        opened(folder)
    assert plans == []


def test_a_plan_that_was_damaged_since_the_pair_was_opened_is_not_read(plans, folder):
    engine = opened(folder).engine("large")
    plan = next((folder / "large@32x24").glob("plan-*"))
    plan.write_bytes(b"another plan")
    with pytest.raises(HybridStitchError, match=r"large@32x24/plan-\S+ is cut short"):
        engine.session().bind(random_inputs(2, 12, 0))
    assert plans == []


def test_plans_of_two_exports_are_refused(export, folder, monkeypatch):
    commit = Store.commit

    def dies(store, manifest, files):
        if manifest.name == "large@32x24":
            raise KeyboardInterrupt
        return commit(store, manifest, files)

    write_component(export / "large", seed=1)
    (export / "assets" / "scheduler" / "scheduler_config.json").write_text('{"shift": 1.0}')
    monkeypatch.setattr(Store, "commit", dies)
    with pytest.raises(KeyboardInterrupt):
        build(export, folder)
    monkeypatch.undo()
    with pytest.raises(HybridStitchError, match=r"the weights in \S+ changed since the large@32x24 engine was built"):
        opened(folder)
    build(export, folder)
    opened(folder)


@pytest.mark.parametrize("plans", ["one", "per-size"])
def test_a_build_that_dies_while_it_splits_or_joins_leaves_what_was_there_whole(export, tmp_path, monkeypatch, plans):
    before = {"one": "per-size", "per-size": "one"}[plans]
    build(export, tmp_path, plans=before)
    names = [manifest.name for manifest in opened(tmp_path).plans["large"]]
    commit = Store.commit

    def dies(store, manifest, files):
        if manifest.name in ("large", "large@32x24"):
            raise KeyboardInterrupt
        return commit(store, manifest, files)

    monkeypatch.setattr(Store, "commit", dies)
    with pytest.raises(KeyboardInterrupt):
        build(export, tmp_path, plans=plans)
    assert [manifest.name for manifest in opened(tmp_path).plans["large"]] == names
    monkeypatch.undo()
    build(export, tmp_path, plans=plans)
    assert [manifest.name for manifest in opened(tmp_path).plans["large"]] != names
    assert len(Store(tmp_path).names()) == (2 if plans == "one" else 4)


def test_a_folder_that_is_split_otherwise_than_the_recipe_says_names_the_command_that_rebuilds(built, folder):
    command = "Build it again: hybridstitch-trt build --pair mini --backend onnxruntime --out "
    for look in (find_pair, open_pair):
        for place, split, words in (
            (folder, False, "holds a plan for each size of large, and the recipe asks for plans = 'one'. "),
            (built, True, "holds one plan for all sizes of large, and the recipe asks for plans = 'per-size'. "),
        ):
            with pytest.raises(HybridStitchError, match=f"{words}{command}{place}"):
                look(place, pair="mini", backend="onnxruntime", needed=NEEDED, split=split)
            look(place, pair="mini", backend="onnxruntime", needed=NEEDED, split=not split)


def test_a_run_of_one_size_needs_the_plans_of_that_size(folder):
    found = find_pair(folder, pair="mini", backend="onnxruntime", needed=NEEDED)
    for size in SIZES:
        needed = found.needed(Size.parse(size), 1)
        assert {name: plan.part for name, plan in needed.items()} == dict.fromkeys(NEEDED, size)
    assert found.geometry == found.manifests["small"].geometry


def test_the_torch_backend_has_no_plans_to_split(export, tmp_path):
    here = Checkpoint(path=str(tmp_path))
    recipe = make_recipe(plans="per-size").model_copy(update={"large": here, "small": here})
    build_pair(recipe, export, tmp_path / "engines", "torch")
    assert Store(tmp_path / "engines").names() == ["large", "small"]
    find_pair(tmp_path / "engines", pair="mini", backend="torch", needed=NEEDED, split=True)


def test_tensorrt_s_plans_open_as_calls_need_them(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt_engine, "tensorrt_module", lambda backend: fake_tensorrt)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    (tmp_path / "plan").write_bytes(b"plan")
    names = []

    def open_plan(manifest):
        monkeypatch.setattr(fake_tensorrt.Plan, "manifest", manifest, raising=False)
        engine = TensorRTEngine(manifest, tmp_path / "plan", device=torch.device("cpu"))
        engine.opened().manifest = manifest
        names.append(manifest.part)
        return engine

    engine = SplitEngine(Store(folder).plans("large"), open_plan, device=torch.device("cpu"))
    session, reference = engine.session(), opened(folder).engine("large").session()
    for tokens, frozen in [(16, 0), (4, 12), (12, 0), (16, 0)]:
        inputs = random_inputs(2, tokens, frozen)
        expected = run_once(reference, inputs)
        for name, output in run_once(session, inputs).items():
            torch.testing.assert_close(output, expected[name])
    assert names == ["32x32", "32x24", "32x32"]
    engine.close()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the rtx extra")
def test_tensorrt_for_rtx_builds_a_plan_for_each_size_and_a_size_that_is_added_alone(export, tmp_path):
    options = BuildOptions(compute_capabilities=("SM89",))

    def build_rtx(*sizes: str) -> dict[str, str]:
        recipe = make_recipe(sizes=list(sizes), plans="per-size")
        return states(
            build_pair(recipe, export, tmp_path / "rtx", "tensorrt_rtx", components=["large"], options=options)
        )

    assert build_rtx("32x32") == {"large@32x32": "built"}
    assert build_rtx("32x32", "32x24") == {"large@32x32": "unchanged", "large@32x24": "built"}
    store = Store(tmp_path / "rtx")
    for plan in store.plans("large"):
        file = store.file(plan, "plan")
        assert file is not None
        assert file.stat().st_size > 10_000
