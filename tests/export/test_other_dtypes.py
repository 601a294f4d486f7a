"""Sixteen-bit and sharded exports: the same graph, read where it lies by the runtimes that know the dtype."""

from __future__ import annotations

import errno
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hybridstitch.export import files
from hybridstitch.export.export_pair import export_pair
from hybridstitch.export.write import write_component
from hybridstitch.method.progress import Progress, silent
from hybridstitch.models import digests
from hybridstitch.models.digests import Digests
from hybridstitch.models.sd3.components import text_shape, transformer
from hybridstitch.models.sd3.token_transformer import TokenTransformer

from ..models.architectures import ARCHITECTURES, random_inputs, random_transformer, run_tokens
from ..models.checkpoints import recipe_of, save_checkpoint
from .running import run_onnx


def test_a_float16_export_runs_in_onnx_runtime(checkpoints, half):
    inputs = random_inputs(random_transformer(seed=1, **ARCHITECTURES["qk_norm"]), 3, 5)
    module = TokenTransformer.load(checkpoints["small"], keeps_keys=False, zero_text_tokens=16)
    expected = run_tokens(module, inputs)["velocity"]
    halves = {name: tensor if name == "timestep" else tensor.half() for name, tensor in inputs.items()}
    velocity = run_onnx(half, halves)["velocity"]
    assert velocity.dtype == torch.float16
    assert (velocity.float() - expected).norm() < 0.01 * expected.norm()


def test_tensorrt_for_rtx_takes_a_sharded_bfloat16_export_in_place(tmp_path, monkeypatch):
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(files, "SMALL_FILE", 0)
    config = {**ARCHITECTURES["dual attention"], "num_layers": 1}
    checkpoint = save_checkpoint(tmp_path / "large", dtype=torch.bfloat16, max_shard_size="20KB", **config)
    component = transformer(checkpoint, "large", text_shape(checkpoint, 16), torch.bfloat16, keeps_keys=True)
    write_component(component, tmp_path / "export", digests=Digests(tmp_path), report=silent)
    shards = sorted((checkpoint / "transformer").glob("*.safetensors"))
    assert len(shards) > 3
    assert {path.name for path in shards} <= {path.name for path in (tmp_path / "export").iterdir()}
    assert not (tmp_path / "export" / "weights.safetensors").exists()

    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network()
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(tmp_path / "export" / "model.onnx")), [
        parser.get_error(index).desc() for index in range(parser.num_errors)
    ]
    assert network.num_inputs == len(component.inputs)


@pytest.fixture
def every_step_is_told(monkeypatch) -> None:
    """A clock on which each step of a write takes ten seconds, and a disk that takes no links."""

    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    clock = itertools.count(0, 10).__next__
    monkeypatch.setattr(digests, "time", SimpleNamespace(monotonic=clock))  # other threads keep the real one
    monkeypatch.setattr(files, "SMALL_FILE", 0)
    monkeypatch.setattr(files, "_clone", lambda *_: False)
    monkeypatch.setattr(files.os, "link", refuse)


def write_small(checkpoint: Path, target: Path, dtype: torch.dtype, report) -> None:
    component = transformer(checkpoint, "small", text_shape(checkpoint, 16), dtype, keeps_keys=False)
    write_component(component, target, digests=Digests(target.parent), report=report)


@pytest.mark.usefixtures("every_step_is_told")
def test_a_conversion_tells_how_many_megabytes_of_all_are_done(checkpoints, tmp_path):
    said: list[Progress] = []
    write_small(checkpoints["small"], tmp_path / "small", torch.float16, said.append)
    done = [(now.done, now.total) for now in said if now.what == "small: converting weights"]
    size = (tmp_path / "small" / "weights.safetensors").stat().st_size
    assert len(done) > 20  # tensors
    assert done == sorted(done)
    assert done[-1] == (-(-size // 10**6),) * 2


def contents(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Which file each path is, when it was written, and its size; without the cache of digests."""
    stats = {path: path.stat() for path in folder.rglob("*") if path.name != digests.CACHE}
    return {path: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


@pytest.fixture(scope="module")
def half(checkpoints, tmp_path_factory) -> Path:
    """The small model in float16; not to be changed."""
    folder = tmp_path_factory.mktemp("half") / "small"
    write_small(checkpoints["small"], folder, torch.float16, silent)
    return folder


@pytest.mark.usefixtures("every_step_is_told")
@pytest.mark.parametrize(("dtype", "doing"), [(torch.float32, "copying"), (torch.float16, "converting")])
def test_ctrl_c_in_the_middle_leaves_the_export_before_and_nothing_half_written(
    checkpoints, export, half, tmp_path, dtype, doing
):
    shutil.copytree(half if dtype == torch.float32 else export.folder / "small", tmp_path / "small")
    before = contents(tmp_path)
    partial: list[Path] = []

    def interrupt(now: Progress) -> None:
        if now.what.startswith(f"small: {doing}"):
            partial.extend(tmp_path.glob(".small.*.partial/*.safetensors"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_small(checkpoints["small"], tmp_path / "small", dtype, interrupt)
    assert len(partial) == 1
    assert contents(tmp_path) == before


def test_vae_and_t5_stay_out_of_float16(checkpoints, tmp_path, monkeypatch):
    graphs = {}

    def collect(component, target, **_):
        graphs[component.name] = component.dtype
        target.mkdir(exist_ok=True)
        (target / "graph.json").write_text('{"graph_sha256": "1", "weights_sha256": "2"}')
        return True

    monkeypatch.setattr("hybridstitch.export.export_pair.write_component", collect)
    t5 = {role: save_checkpoint(tmp_path / role, t5=True) for role in ("large", "small")}
    export_pair(recipe_of(**t5), tmp_path / "half", dtype="float16")
    assert graphs["large"] == graphs["text_encoder"] == torch.float16
    assert graphs["text_encoder_3"] == graphs["vae_decoder"] == torch.float32
    export_pair(recipe_of(**t5), tmp_path / "brain", dtype="bfloat16")
    assert set(graphs.values()) == {torch.bfloat16}


def test_the_timestep_stays_float32_up_to_its_sinusoid(checkpoints):
    text = text_shape(checkpoints["small"], 16)
    module = transformer(checkpoints["small"], "small", text, torch.bfloat16, keeps_keys=False).module
    assert isinstance(module, TokenTransformer)
    loaded = TokenTransformer.load(checkpoints["small"], keeps_keys=False, dtype=torch.bfloat16)
    inputs = random_inputs(random_transformer(seed=1, **ARCHITECTURES["qk_norm"]), 2, 2, 1)
    near = [loaded._embed_condition(torch.tensor([step]), inputs["pooled"][:1].bfloat16()) for step in (500.0, 501.0)]
    assert not torch.equal(*near)
