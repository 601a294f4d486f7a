"""The reference backend: every component of the demo pair, and that ONNX Runtime agrees with it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.executors import torch_engine
from hybridstitch.engines.executors.engine import run_once
from hybridstitch.engines.open import open_pair
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe

from .handmade import open_engine


@pytest.fixture(scope="module")
def reference(demo_onnx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "torch"
    build_pair(Recipe.load("demo"), demo_onnx, folder, "torch")
    return folder


def random_inputs(manifest, **lengths):
    generator = torch.Generator().manual_seed(5)
    inputs = {}
    for name, spec in manifest.inputs.items():
        shape = [lengths[dim] if isinstance(dim, str) else dim for dim in spec.dims]
        whole = spec.dtype == "int64"
        inputs[name] = (
            torch.randint(0, 40, shape, generator=generator) if whole else torch.randn(shape, generator=generator)
        )
    return inputs


@pytest.mark.parametrize("component", ["large", "small", "text_encoder", "text_encoder_2", "vae_decoder"])
def test_onnx_runtime_gives_what_pytorch_gives_for_every_component(demo_engines, reference, component):
    expected_of = open_engine(reference, component, backend="torch")
    engine = open_engine(demo_engines, component, backend="onnxruntime")
    text = expected_of.manifest.geometry.text_tokens if expected_of.manifest.geometry else 0
    masked = [(256, 0), (80, 176), (33, 207)] if component == "large" else [(240, 0)]
    for computed, frozen in masked:
        inputs = random_inputs(expected_of.manifest, B=2, M=computed, F=frozen, T=text, h=24, w=40)
        expected, actual = run_once(expected_of.session(), inputs), run_once(engine.session(), inputs)
        assert list(actual) == list(expected)
        for name in expected:
            scale = float(expected[name].abs().max())
            assert_close(actual[name], expected[name], atol=1e-5 * scale, rtol=0)


def test_outputs_given_to_pytorch_are_written_in_place(reference):
    engine = open_engine(reference, "small", backend="torch")
    inputs = random_inputs(engine.manifest, B=1, M=256, T=engine.manifest.profiles[0].ranges["T"][0])
    velocity = torch.full((1, 256, 16), torch.nan)
    outputs = run_once(engine.session(), inputs, {"velocity": velocity})
    assert outputs["velocity"] is velocity
    assert_close(velocity, run_once(engine.session(), inputs)["velocity"])


def test_threads_are_those_of_the_engine_while_it_runs_and_of_the_process_afterwards(reference):
    before = torch.get_num_threads()
    engine: Any = open_engine(reference, "small", backend="torch", threads=before + 1)
    ran = []
    engine._module.register_forward_hook(lambda *_: ran.append(torch.get_num_threads()))
    inputs = random_inputs(engine.manifest, B=1, M=256, T=engine.manifest.profiles[0].ranges["T"][0])
    run_once(engine.session(), inputs)
    assert ran == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (".", r"the checkpoint of the vae_decoder engine, \S+copy, is no folder any more"),
        ("vae/diffusion_pytorch_model.safetensors", r"copy/vae holds no weights"),
    ],
)
def test_a_checkpoint_that_is_gone_is_told_before_anything_is_loaded(reference, tmp_path, monkeypatch, gone, words):
    checkpoint, folder = tmp_path / "copy", tmp_path / "torch"
    shutil.copytree(Recipe.load("demo").checkpoint("large"), checkpoint)
    shutil.copytree(reference, folder)
    store = Store(folder)
    store.update(replace(store.manifest("vae_decoder"), checkpoint=str(checkpoint)))
    monkeypatch.setattr(torch_engine.TorchEngine, "__init__", lambda *_, **__: pytest.fail("an engine was opened"))
    if gone == ".":
        shutil.rmtree(checkpoint)
    else:
        (checkpoint / gone).unlink()
    with pytest.raises(HybridStitchError, match=words):
        open_pair(folder, pair="demo", backend="torch").engine("large")
