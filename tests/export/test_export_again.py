"""An export that changed nothing is not made again; one that did, is."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridstitch.export import write
from hybridstitch.export.export_pair import export_pair
from hybridstitch.method.progress import Progress

from ..models.checkpoints import recipe_of

ALL = ("large", "small", "text_encoder", "text_encoder_2", "vae_decoder")


@pytest.fixture
def copy(export, tmp_path):
    return shutil.copytree(export.folder, tmp_path / "export")


@pytest.fixture
def untraced(monkeypatch):
    """Tracing replaced by an error, so that a needless export shows."""
    monkeypatch.setattr(write, "trace", lambda component: pytest.fail(f"{component.name} was traced again"))


def test_nothing_changed_means_nothing_is_exported_again(copy, checkpoints, untraced):
    said: list[Progress] = []
    again = export_pair(recipe_of(**checkpoints), copy, progress=said.append)
    assert (again.written, again.reused) == ((), ALL)
    assert said == [Progress(f"{name}: nothing changed") for name in ALL]


def test_a_changed_weight_exports_its_component_again(copy, checkpoints, tmp_path):
    changed = shutil.copytree(checkpoints["small"], tmp_path / "changed")
    file = changed / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["proj_out.bias"] += 1
    save_file(weights, file, metadata={"format": "pt"})
    before = json.loads((copy / "small" / "graph.json").read_text())
    again = export_pair(recipe_of(checkpoints["large"], changed), copy)
    assert again.written == ("small",)
    after = json.loads((copy / "small" / "graph.json").read_text())
    assert before["weights_sha256"] != after["weights_sha256"]
    assert before["graph_sha256"] == after["graph_sha256"]
    hashes = json.loads((copy / "assets" / "pair.json").read_text())["hashes"]
    assert set(hashes) == set(ALL)
    assert hashes["small"] == {key: after[key] for key in ("graph_sha256", "weights_sha256")}
    assert torch.equal(load_file(copy / "small" / file.name)["proj_out.bias"], weights["proj_out.bias"])


def test_what_the_pair_no_longer_has_goes_with_the_next_export(copy, checkpoints, untraced):
    shutil.copytree(copy / "text_encoder", copy / "text_encoder_3")
    export_pair(recipe_of(**checkpoints), copy)
    assert {path.name for path in copy.iterdir() if path.is_dir()} == {*ALL, "assets"}


def test_an_export_cut_short_is_made_again(copy, checkpoints):
    (copy / "vae_decoder" / "model.onnx").write_bytes(b"")
    assert export_pair(recipe_of(**checkpoints), copy).written == ("vae_decoder",)
    assert (copy / "vae_decoder" / "model.onnx").stat().st_size > 10_000


def test_an_export_that_fails_leaves_the_former_one(copy, checkpoints, monkeypatch):
    before = (copy / "vae_decoder" / "model.onnx").read_bytes()
    (copy / ".vae_decoder.killed.partial").mkdir()  # what a killed export leaves
    (copy / "vae_decoder" / "graph.json").write_text("{}")

    def fail(*_):
        raise RuntimeError("tracing failed")

    monkeypatch.setattr(write, "place_weights", fail)
    with pytest.raises(RuntimeError):
        export_pair(recipe_of(**checkpoints), copy)
    assert (copy / "vae_decoder" / "model.onnx").read_bytes() == before
    assert not list(copy.glob("*.partial")) + list(copy.glob(".*.partial"))
