"""One way to open a built pair: all of it is checked before any plan is read, and what is opened belongs together."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.executors import onnxruntime_engine
from hybridstitch.engines.open import BuiltPair, find_pair, open_pair
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models import digests

from .handmade import make_recipe, weights, write_component, write_export

NEEDED = ("large", "small")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """The export of a tiny pair, to be changed; its weight files stand for the checkpoint's."""
    return write_export(tmp_path / "onnx")


@pytest.fixture
def folder(export: Path, tmp_path: Path) -> Path:
    """A built pair, to be changed."""
    build_pair(make_recipe(), export, tmp_path / "mini" / "onnxruntime")
    return tmp_path / "mini" / "onnxruntime"


@pytest.fixture
def no_plan_is_read(monkeypatch):
    def read(*_: object, **__: object) -> None:
        pytest.fail("a plan was opened")

    monkeypatch.setattr(onnxruntime_engine.OnnxRuntimeEngine, "__init__", read)


def opened(folder: Path, **options) -> BuiltPair:
    return open_pair(folder, pair="mini", backend="onnxruntime", **{"needed": NEEDED, **options})


@pytest.mark.usefixtures("no_plan_is_read")
def test_a_missing_engine_is_told_before_any_plan_is_read(folder):
    with pytest.raises(HybridStitchError, match="the vae_decoder engine of pair 'mini' is not built"):
        opened(folder, needed=(*NEEDED, "vae_decoder")).engine("large")


@pytest.mark.usefixtures("no_plan_is_read")
@pytest.mark.parametrize("named", ["mini/onnxruntime/large", "mini/onnxruntime/none", "mini", ".", "mini/onnx"])
def test_a_folder_above_below_or_beside_the_engines_is_told_the_right_one(folder, tmp_path, named):
    (tmp_path / "onnx").rename(tmp_path / "mini" / "onnx")
    with pytest.raises(HybridStitchError) as caught:
        opened(tmp_path / named)
    assert str(caught.value) == f"{tmp_path / named} is not the folder of the engines; name {folder}"


@pytest.mark.usefixtures("no_plan_is_read")
def test_engines_of_another_pair_or_backend_nearby_are_not_pointed_to(folder):
    for options in ({"pair": "other"}, {"backend": "torch"}):
        with pytest.raises(HybridStitchError, match=r"is not built: \S+/large holds none\. Build it: "):
            find_pair(folder / "large", **{"pair": "mini", "backend": "onnxruntime", "needed": NEEDED, **options})


@pytest.mark.usefixtures("no_plan_is_read")
def test_a_damaged_engine_is_told_before_any_other_plan_is_read(folder):
    plan = next((folder / "small").glob("plan-*"))
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(HybridStitchError, match=r"small/plan-\S+ is cut short"):
        opened(folder).engine("large")


@pytest.mark.usefixtures("no_plan_is_read")
@pytest.mark.parametrize("same_size", [True, False])
def test_weights_that_changed_since_the_build_are_told_before_any_plan_is_read(export, folder, same_size):
    checkpoint = export / "large" / "weights.safetensors"
    edited = {name: tensor + 1 for name, tensor in weights(0).items()}
    save_file(edited if same_size else {**edited, "more": torch.zeros(9)}, checkpoint)
    words = r"the weights in \S+/large changed since the large engine was built."
    with pytest.raises(HybridStitchError, match=words) as told:
        opened(folder)
    assert str(told.value).endswith(f"hybridstitch-trt build --pair mini --backend onnxruntime --out {folder}")
    write_component(export / "large", seed=7)
    build_pair(make_recipe(), export, folder)
    opened(folder)


def test_a_checkpoint_is_read_again_only_when_its_time_changed(export, folder, monkeypatch):
    read: list[Path] = []
    whole = digests.file_sha256
    monkeypatch.setattr(digests, "file_sha256", lambda path, *rest: read.append(path) or whole(path, *rest))
    checkpoint = export / "large" / "weights.safetensors"
    opened(folder)
    assert checkpoint not in read
    os.utime(checkpoint, (1, 1))
    opened(folder)
    opened(folder)
    assert read.count(checkpoint) == 1


def test_engines_carried_to_a_machine_without_the_checkpoint_are_opened(export, folder):
    shutil.rmtree(export)
    opened(folder).engine("large").close()


def test_the_same_checkpoint_elsewhere_is_the_one_that_is_watched_from_then_on(export, folder, tmp_path):
    moved = Path(shutil.copytree(export, tmp_path / "moved"))
    content = json.loads((moved / "large" / "graph.json").read_text())
    file = moved / "large" / "weights.safetensors"
    (moved / "large" / "graph.json").write_text(
        json.dumps({**content, "weights_from": {str(file): file.stat().st_size}})
    )
    shutil.rmtree(export)
    report = build_pair(make_recipe(), moved, folder)
    assert {component.state for component in report.components} == {"unchanged"}
    save_file({name: tensor + 1 for name, tensor in weights(0).items()}, file)
    with pytest.raises(HybridStitchError, match="changed since the large engine was built"):
        opened(folder)


@pytest.mark.usefixtures("no_plan_is_read")
def test_engines_of_two_exports_are_refused_before_any_plan_is_read(export, folder):
    (export / "assets" / "scheduler" / "scheduler_config.json").write_text('{"shift": 1.0}')
    build_pair(make_recipe(), export, folder, components=["small"])
    with pytest.raises(HybridStitchError, match=r"mix two exports. Build them again: "):
        opened(folder).engine("large")


def test_a_pair_of_another_name_is_refused_whichever_way_it_is_looked_at(folder):
    for look in (find_pair, open_pair):
        with pytest.raises(HybridStitchError, match="holds engines of pair 'mini', not of 'demo'"):
            look(folder, pair="demo", backend="onnxruntime", needed=NEEDED)


def test_a_build_that_ends_while_a_pair_is_checked_is_taken_whole(export, folder, monkeypatch):
    before = find_pair(folder, pair="mini", backend="onnxruntime", needed=NEEDED).manifests
    check, waiting = Store.check_files, [True]

    def check_late(store, manifest):
        if waiting and not waiting.clear():
            write_component(export / "large", seed=1)
            write_component(export / "small", seed=1)
            build_pair(make_recipe(), export, folder)
        check(store, manifest)

    monkeypatch.setattr(Store, "check_files", check_late)
    now = opened(folder).manifests
    assert all(now[name] == Store(folder).manifest(name) != before[name] for name in NEEDED)


def test_a_build_that_ends_after_the_check_never_mixes_its_engines_with_those_that_were_checked(export, folder):
    pair = opened(folder)
    pair.engine("small").close()
    write_component(export / "large", seed=1)
    build_pair(make_recipe(), export, folder)
    with pytest.raises(HybridStitchError, match=r"large/\S+ is gone: the pair was built again since it was opened"):
        pair.engine("large")
    with pytest.raises(HybridStitchError, match="is gone"):
        pair.positions("large")


def test_only_a_transformer_has_positions(exported, built):
    pair = opened(built)
    assert pair.positions("large").shape == (8, 8, 4)
    assert pair.geometry.position_size == 8
