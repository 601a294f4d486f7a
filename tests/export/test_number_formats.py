"""Weights that are no plain floats are refused by the name of their format; what nothing reads is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hybridstitch.cli import main
from hybridstitch.export.export_pair import export_pair
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.sd3.token_transformer import TokenTransformer

from ..models.checkpoints import recipe_of, save_checkpoint

Tensors = dict[str, Tensor]
T5_WEIGHT = "encoder.block.0.layer.0.SelfAttention.q.weight"
WEIGHTS = {"transformer": "proj_out.weight", "vae": "decoder.mid_block.attentions.0.to_q.weight"}
WEIGHTS |= {"text_encoder": "text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder_3": T5_WEIGHT}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A checkpoint with T5; not to be changed."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "large", t5=True)


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "large"))


@pytest.fixture
def untraced(monkeypatch) -> None:
    """Exports whose graphs are not made: what is refused or told is so before."""

    def write(component, target: Path, **_: object) -> bool:
        target.mkdir(exist_ok=True)
        (target / "graph.json").write_text('{"graph_sha256": "1", "weights_sha256": "2"}')
        return True

    monkeypatch.setattr("hybridstitch.export.export_pair.write_component", write)


def weights_of(model: Path) -> Path:
    return next(model.glob("*.safetensors"))


def rewrite(model: Path, change: Callable[[Tensors], Tensors], **config: Any) -> None:
    """Change a model's tensors and what its config says."""
    file = weights_of(model)
    save_file(change(load_file(file)), file)
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def eight_bit(name: str) -> Callable[[Tensors], Tensors]:
    """A weight as bitsandbytes stores it in 8 bit: whole numbers of the same shape, and a scale for each row."""

    def change(tensors: Tensors) -> Tensors:
        weight = tensors[name]
        scale = weight.flatten(1).abs().amax(dim=1)
        rows = scale.reshape(-1, *[1] * (weight.dim() - 1))
        return {**tensors, name: (weight / rows * 127).round().to(torch.int8), f"{name[:-7]}.SCB": scale}

    return change


def four_bit(name: str) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        packed = torch.zeros(tensors[name].numel() // 2, 1, dtype=torch.uint8)
        state = torch.zeros(4, dtype=torch.uint8)
        return {
            **tensors,
            name: packed,
            f"{name}.absmax": torch.ones(1),
            f"{name}.quant_state.bitsandbytes__nf4": state,
        }

    return change


def gptq(name: str) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        others = {key: tensor for key, tensor in tensors.items() if key != name}
        numbers = torch.zeros(4, 4, dtype=torch.int32)
        return {**others, f"{name[:-7]}.qweight": numbers, f"{name[:-7]}.g_idx": numbers.clone()}

    return change


def refused(checkpoint: Path, words: str) -> str:
    out = checkpoint.parent / "out"
    with pytest.raises(HybridStitchError, match=words) as caught:
        export_pair(recipe_of(checkpoint, checkpoint), out)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


BITSANDBYTES = {"quant_method": "bitsandbytes", "load_in_8bit": True}


@pytest.mark.parametrize("component", WEIGHTS)
@pytest.mark.parametrize("config", [{"quantization_config": BITSANDBYTES}, {}], ids=["told by the config", "not told"])
def test_an_8_bit_component_is_refused_before_anything_is_written(checkpoint, component, config):
    rewrite(checkpoint / component, eight_bit(WEIGHTS[component]), **config)
    words = rf"large/{component} holds weights in bitsandbytes 8 bit; float32, float16 and bfloat16 are supported: use "
    said = refused(checkpoint, words)
    assert said.endswith("from before it was quantized, or load this one, call its dequantize() and save it again")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (four_bit, "bitsandbytes 4 bit"),
        (gptq, "GPTQ"),
        (
            lambda name: lambda tensors: {**tensors, name: tensors[name].to(torch.int16)},
            r"a quantized format that is not known \(tensor proj_out.weight is I16\)",
        ),
    ],
)
def test_other_formats_are_named_by_their_tensors(checkpoint, change, words):
    rewrite(checkpoint / "transformer", change("proj_out.weight"))
    refused(checkpoint, f"large/transformer holds weights in {words}; float32, float16 and bfloat16")
    with pytest.raises(HybridStitchError, match=words):
        TokenTransformer.load(checkpoint, keeps_keys=False)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "torchao"}, "torchao"),
        ({"load_in_4bit": True}, "bitsandbytes 4 bit"),
        ({"bits": 4}, "a quantized format that its config.json does not name"),
        ("int8", "a quantized format that its config.json does not name"),
    ],
)
def test_a_config_that_names_a_format_is_refused(checkpoint, config, words):
    change = eight_bit("proj_out.weight") if "load_in_4bit" in config else dict
    rewrite(checkpoint / "transformer", change, quantization_config=config)
    said = refused(checkpoint, f"large/transformer holds weights in {words}; float32")
    assert ("dequantize()" in said) == ("bitsandbytes" in words)


@pytest.mark.usefixtures("untraced")
def test_what_dequantize_leaves_is_a_plain_model(checkpoint, tmp_path):
    """diffusers takes the scales away, and leaves the config as it was."""
    rewrite(checkpoint / "transformer", dict, quantization_config=BITSANDBYTES)
    rewrite(checkpoint / "vae", dict, quantization_config=None)
    assert not export_pair(recipe_of(checkpoint, checkpoint), tmp_path / "out").warnings


def test_8_bit_floats_are_refused_by_their_name(checkpoint):
    rewrite(checkpoint / "text_encoder_3", lambda t: {**t, T5_WEIGHT: t[T5_WEIGHT].to(torch.float8_e4m3fn)})
    refused(checkpoint, rf"tensor {T5_WEIGHT} is stored as F8_E4M3; float32, float16 and bfloat16 are supported")


@pytest.mark.usefixtures("untraced")
def test_a_quantized_copy_of_what_nothing_reads_of_the_small_model_does_not_matter(whole, checkpoint, tmp_path):
    rewrite(checkpoint / "text_encoder_3", eight_bit(T5_WEIGHT), quantization_config=BITSANDBYTES)
    assert export_pair(recipe_of(whole, checkpoint), tmp_path / "made").written
    refused(checkpoint, "large/text_encoder_3 holds weights in bitsandbytes 8 bit")


@pytest.mark.usefixtures("untraced")
def test_tensors_that_nothing_reads_are_told_and_those_that_are_known_are_not(checkpoint, tmp_path, capsys):
    """Older checkpoints store positions, T5 stores its embeddings twice, and a VAE has an encoder."""
    positions = {"text_model.embeddings.position_ids": torch.arange(10)[None]}
    rewrite(checkpoint / "text_encoder", lambda tensors: {**tensors, **positions})
    for name in ("encoder.embed_tokens.weight", "decoder.block.0.layer.0.SelfAttention.q.weight"):
        rewrite(
            checkpoint / "text_encoder_3", lambda tensors, name=name: {**tensors, name: tensors["shared.weight"] + 0}
        )
    assert any(name.startswith("encoder.") for name in load_file(weights_of(checkpoint / "vae")))
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ndtype = "float32"\nlarge.path = "large"\nsmall.path = "large"\n'
        'profiles.sizes = ["16x16"]\ndefaults.size = "16x16"\n'
    )
    export = ["export", "--pair", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "out")]
    assert main(export) == 0
    assert capsys.readouterr().err == ""

    loras = {f"transformer_blocks.0.attn.to_q.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    rewrite(checkpoint / "transformer", lambda tensors: {**tensors, **loras})
    assert main(export) == 0
    told = f"2 tensors in {checkpoint}/transformer will not be read, such as transformer_blocks.0.attn.to_q.lora_A"
    assert [line[: len(told) + 16] for line in capsys.readouterr().err.splitlines()] == [
        f"warning: large: {told}",
        f"warning: small: {told}",
    ]
