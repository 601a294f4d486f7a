"""Weights are found in place: linked where their dtype fits, converted where not, and never half there."""

from __future__ import annotations

import contextlib
import json
import runpy
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridstitch.export import files
from hybridstitch.export.external import place_weights
from hybridstitch.export.files import place, remove_leftovers, whole_folder
from hybridstitch.export.fingerprint import fingerprint
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import Progress, silent
from hybridstitch.models import digests
from hybridstitch.models.load import find_weights
from hybridstitch.models.sd3.components import text_shape, transformer
from hybridstitch.models.weights import read_header, stored_tensors, weight_files


@pytest.fixture
def weights(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.ones(4, dtype=torch.bfloat16), "d": torch.zeros(0, 2)}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", tensors


def test_tensors_are_found_by_offset(weights):
    file, tensors = weights
    stored = read_header(file)
    assert {name: (t.shape, t.dtype) for name, t in stored.items()} == {
        name: (tuple(t.shape), t.dtype) for name, t in tensors.items()
    }
    for name, tensor in tensors.items():
        assert torch.equal(stored[name].read(), tensor)


def test_a_file_cut_short_is_refused(weights):
    file, _ = weights
    content = file.read_bytes()
    file.write_bytes(content[:-3])
    with pytest.raises(HybridStitchError, match=rf"cut short: {len(content) - 3} of {len(content)} bytes; fetch it"):
        read_header(file)
    file.write_bytes(content[:20])
    with pytest.raises(HybridStitchError, match="cut short in its header"):
        read_header(file)
    file.write_bytes(b"not weights at all")
    with pytest.raises(HybridStitchError, match="is not a safetensors file"):
        read_header(file)


def test_a_missing_shard_is_named(tmp_path):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.ones(1)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(HybridStitchError, match=r"model-00002-of-00002.safetensors is missing; .*index.json names it"):
        stored_tensors(tmp_path)


def test_weights_in_other_formats_are_named(tmp_path):
    with pytest.raises(HybridStitchError, match="holds no weights"):
        weight_files(tmp_path)
    (tmp_path / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(HybridStitchError, match=r"holds diffusion_pytorch_model.bin but no .safetensors"):
        weight_files(tmp_path)


def test_a_variant_is_used_where_it_is_alone(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "model.fp16.safetensors")
    assert [file.name for file in weight_files(tmp_path)] == ["model.fp16.safetensors"]
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert [file.name for file in weight_files(tmp_path)] == ["model.safetensors"]


def test_a_large_file_is_linked_and_a_small_one_copied(weights, tmp_path, monkeypatch):
    file, _ = weights
    place(file, tmp_path / "copy", silent)
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    assert file.stat().st_nlink == 1
    monkeypatch.setattr(files, "SMALL_FILE", 0)
    (tmp_path / "alias").symlink_to(file)  # as the hub's cache does
    place(tmp_path / "alias", tmp_path / "link", silent)
    assert (tmp_path / "link").read_bytes() == file.read_bytes()
    assert not (tmp_path / "link").is_symlink()


def test_a_system_without_fcntl_links_large_files(weights, tmp_path, monkeypatch):
    file, _ = weights
    monkeypatch.setitem(sys.modules, "fcntl", None)
    elsewhere = runpy.run_path(files.__file__)
    elsewhere["place"].__globals__["SMALL_FILE"] = 0
    elsewhere["place"](file, tmp_path / "link", silent)
    assert (tmp_path / "link").samefile(file)


def test_a_file_that_cannot_be_linked_is_copied_with_progress(weights, tmp_path, monkeypatch):
    file, _ = weights

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(files, "SMALL_FILE", 0)
    monkeypatch.setattr(files, "_clone", lambda *_: False)
    monkeypatch.setattr(files.os, "link", refuse)
    clock = iter(range(0, 100, 10)).__next__
    monkeypatch.setattr(digests, "time", SimpleNamespace(monotonic=clock))  # other threads keep the real one
    said: list[Progress] = []
    place(file, tmp_path / "copy", said.append)
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    assert said == [Progress("copying model.safetensors", 1, 1)]


def test_a_full_disk_is_told_before_and_while_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(
        HybridStitchError,
        match=r"not enough disk space in .* for the weights: 5.1 GB needed "
        r"\(5.0 GB to write, and 67.1 MB that stay free\), 0.0 MB free",
    ):
        files.check_space(tmp_path, 5 * 10**9, "the weights")
    with (
        pytest.raises(HybridStitchError, match=f"no space left in {tmp_path}; free some or choose another --out"),
        whole_folder(tmp_path / "large"),
    ):
        raise OSError(28, "No space left on device")


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    target = tmp_path / "large"
    with whole_folder(target) as folder:
        (folder / "graph.json").write_text("first")
    with contextlib.suppress(RuntimeError), whole_folder(target) as folder:
        (folder / "graph.json").write_text("second")
        raise RuntimeError
    assert (target / "graph.json").read_text() == "first"
    with whole_folder(target) as folder:
        (folder / "graph.json").write_text("third")
    assert (target / "graph.json").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_a_fingerprint_changes_with_any_byte_and_reads_a_file_once(weights, tmp_path, monkeypatch):
    file, _ = weights
    (tmp_path / "known").mkdir()
    known = digests.Digests(tmp_path / "known")
    first = fingerprint([file], known, silent)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert fingerprint([file], known, silent) != first
    again = fingerprint([file], known, silent)
    monkeypatch.setattr(digests, "file_sha256", lambda *_: pytest.fail("read again"))
    assert fingerprint([file], known, silent) == again


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_another_dtype_are_converted_into_one_file(checkpoints, tmp_path, dtype):
    text = text_shape(checkpoints["small"], 16)
    component = transformer(checkpoints["small"], "small", text, dtype, keeps_keys=False)
    placed = place_weights(component, find_weights(component), tmp_path, silent)
    converted = load_file(tmp_path / "weights.safetensors")
    stored = load_file(checkpoints["small"] / "transformer" / "diffusion_pytorch_model.safetensors")
    assert set(converted) == set(stored)
    for name, tensor in stored.items():
        kept = tensor if name == "pos_embed.pos_embed" else tensor.to(dtype)
        assert torch.equal(converted[name], kept), name
        assert torch.equal(placed[name].read(), kept), name


def test_a_weight_that_overflows_float16_is_refused(checkpoints, tmp_path):
    folder = tmp_path / "small"
    source = checkpoints["small"] / "transformer"
    shutil.copytree(source, folder / "transformer")
    weights = load_file(source / "diffusion_pytorch_model.safetensors")
    weights["proj_out.bias"][3] = 1e5
    save_file(weights, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    text = text_shape(checkpoints["small"], 16)
    component = transformer(checkpoints["small"], "small", text, torch.float16, keeps_keys=False)
    object.__setattr__(component, "folder", folder / "transformer")
    with pytest.raises(HybridStitchError, match=r"tensor proj_out.bias does not fit float16; export with bfloat16"):
        place_weights(component, find_weights(component), tmp_path, silent)


def test_only_folders_of_an_interrupted_export_are_removed(tmp_path):
    ours = tmp_path / ".large.abcd1234.partial"
    theirs = [tmp_path / ".notes.old", tmp_path / ".large.partial", tmp_path / ".photos.abcd1234.old"]
    for folder in (ours, *theirs):
        folder.mkdir()
    remove_leftovers(tmp_path, ["large", "small"])
    assert not ours.exists()
    assert all(folder.is_dir() for folder in theirs)
