"""The exported graphs compute what diffusers and transformers compute, and stand beside their weights."""

from __future__ import annotations

import inspect
import json

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from hybridstitch.engines.builders.exported_graph import read_graph
from hybridstitch.export import write
from hybridstitch.method.progress import silent
from hybridstitch.models.digests import Digests
from hybridstitch.models.sd3.components import TextShape, clip_text_encoder
from hybridstitch.models.sd3.token_transformer import TokenTransformer, position_table

from ..models.architectures import ARCHITECTURES, random_inputs, random_transformer, run_tokens
from ..models.checkpoints import CLIP_TOKENS, END, clip, vae
from .running import run_onnx


def frozen_of(module: TokenTransformer, outputs: dict, kept: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        f"frozen_{kind}.{index}": outputs[f"{kind}.{index}"][:, :, kept]
        for index in range(module.attentions)
        for kind in ("key", "value")
    }


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_onnx_runtime_gives_pytorch_s_full_and_masked_runs(export, checkpoints, batch):
    module = TokenTransformer.load(checkpoints["large"], keeps_keys=True, zero_text_tokens=16)
    inputs = random_inputs(random_transformer(**ARCHITECTURES["dual attention"]), 3, 5, batch)
    none = {
        name: torch.zeros(batch, module.heads, 0, module.head_dim) for name in module.input_names() if "frozen" in name
    }
    full = run_tokens(module, {**inputs, **none})
    assert_all_close(run_onnx(export.folder / "large", {**inputs, **none}), full)

    computed = torch.tensor([7, 0, 11, 3, 4])
    kept = torch.ones(15, dtype=torch.bool)
    kept[computed] = False
    masked = {name: inputs[name][:, computed] for name in ("tokens", "position")}
    masked = {**inputs, **masked, **frozen_of(module, full, kept)}
    outputs = run_onnx(export.folder / "large", masked)
    assert_all_close(outputs, run_tokens(module, masked))
    assert_all_close({"velocity": outputs["velocity"]}, {"velocity": full["velocity"][:, computed]})


def test_the_small_model_has_no_keys(export, checkpoints):
    module = TokenTransformer.load(checkpoints["small"], keeps_keys=False, zero_text_tokens=16)
    inputs = random_inputs(random_transformer(seed=1, **ARCHITECTURES["qk_norm"]), 2, 7, 3)
    outputs = run_onnx(export.folder / "small", inputs)
    assert list(outputs) == ["velocity"]
    assert_all_close(outputs, run_tokens(module, inputs))


@pytest.mark.parametrize("batch", [1, 4])
def test_text_encoders_give_what_transformers_gives(export, batch):
    ids = torch.randint(2, END, (batch, CLIP_TOKENS), generator=torch.Generator().manual_seed(0))
    for row, end in enumerate([3, 9, 1, 5][:batch]):
        ids[row, end:] = END  # padded with the end token, as Stable Diffusion's tokenizers do
    for name, width in (("text_encoder", 8), ("text_encoder_2", 12)):
        outputs = run_onnx(export.folder / name, {"input_ids": ids})
        expected = clip(width)(ids, output_hidden_states=True)
        assert_close(outputs["hidden"], expected.hidden_states[-2], atol=1e-5, rtol=1e-5)
        assert_close(outputs["pooled"], expected.text_embeds, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 4, 4), (3, 5, 2)])
def test_the_vae_decoder_takes_latents_as_the_sampler_leaves_them(export, batch, height, width):
    latents = torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(0))
    outputs = run_onnx(export.folder / "vae_decoder", {"latents": latents})
    assert_close(outputs["image"], vae().decode(latents / 1.5 + 0.06).sample, atol=1e-5, rtol=1e-5)


def test_a_graph_is_the_same_in_every_process_that_traces_it(export, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "trace", inspect.unwrap(write.trace))  # anew: see traced_once.py
    component = clip_text_encoder(checkpoints["large"], "text_encoder", TextShape(CLIP_TOKENS, 0, 16), torch.float32)
    folder = tmp_path / "text_encoder"
    assert write.write_component(component, folder, digests=Digests(tmp_path), report=silent)
    assert (folder / "model.onnx").read_bytes() == (export.folder / "text_encoder" / "model.onnx").read_bytes()


@pytest.mark.parametrize("component", ["large", "small", "text_encoder", "vae_decoder"])
def test_graphs_pass_the_onnx_checker_and_hold_no_weights(export, component):
    path = export.folder / component / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    stored = onnx.load(path, load_external_data=False).graph
    assert sum(len(tensor.raw_data) for tensor in stored.initializer) < 8192
    assert not {node.op_type for node in stored.node} & {"SplitToSequence", "SequenceAt", "ConcatFromSequence"}
    assert "site-packages" not in str(stored)


def test_weights_are_those_of_the_checkpoint_under_their_own_names(export, checkpoints):
    stored = load_file(checkpoints["large"] / "transformer" / "diffusion_pytorch_model.safetensors")
    initializers = onnx.load(export.folder / "large" / "model.onnx").graph.initializer
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in initializers}
    assert len(set(weights) & set(stored)) > 60
    for name in set(weights) & set(stored):
        assert np.array_equal(weights[name], stored[name].numpy()), name


def test_graph_json_says_what_an_engine_must_know(export, checkpoints):
    content = json.loads((export.folder / "large" / "graph.json").read_text())
    assert content["component"] == "large"
    assert content["dtype"] == "float32"
    exported = read_graph(export.folder / "large")  # tensors stand in the ONNX file alone
    assert exported.inputs["tokens"].dims == ("B", "M", 16)
    assert exported.inputs["frozen_key.2"].dims == ("B", 2, "F", 16)
    assert exported.outputs["value.0"].dims == ("B", 2, "M", 16)
    assert content["geometry"]["text_tokens"] == CLIP_TOKENS + 1
    assert content["zero_text_tokens"] == 16
    assert len(content["graph_sha256"]) == len(content["weights_sha256"]) == 64
    table = load_file(export.folder / "large" / "position.safetensors")["position"]
    assert torch.equal(table, position_table(checkpoints["large"]))
    pair = json.loads((export.folder / "assets" / "pair.json").read_text())
    assert set(pair) == {"pair", "hashes", "made_from"}
    assert pair["pair"] == "small"
    assert (export.folder / "assets" / "tokenizer_2" / "tokenizer_config.json").is_file()
    assert (export.folder / "assets" / "scheduler" / "scheduler_config.json").is_file()


def assert_all_close(outputs: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To 1e-5 of each tensor's largest value."""
    assert list(outputs) == list(expected)
    for name, tensor in expected.items():
        assert outputs[name].shape == tensor.shape
        assert (outputs[name] - tensor).abs().max() <= 1e-5 * tensor.abs().max(), name
