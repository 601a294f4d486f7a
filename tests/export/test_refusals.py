"""What cannot be exported is refused in one line that says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridstitch.export.export_pair import export_pair
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.checkpoint import read_json
from hybridstitch.models.load import load_module
from hybridstitch.models.sd3.checkpoint import check_checkpoint, check_small_checkpoint
from hybridstitch.models.sd3.compatibility import check_pair
from hybridstitch.models.sd3.components import describe
from hybridstitch.models.sd3.token_transformer import TokenTransformer

from ..models.checkpoints import recipe_of


@pytest.fixture
def pair(checkpoints: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of both checkpoints, to spoil."""
    return {role: Path(shutil.copytree(folder, tmp_path / role)) for role, folder in checkpoints.items()}


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: shutil.rmtree(f), "is not a folder"),
        (lambda f: (f / "model_index.json").unlink(), r"is not a Stable Diffusion 3 checkpoint: .*model_index.json"),
        (lambda f: change(f / "model_index.json", _class_name="FluxPipeline"), "is a FluxPipeline, not a StableDiff"),
        (
            lambda f: change(f / "model_index.json", vae=["diffusers", "AutoencoderTiny"]),
            "vae is AutoencoderTiny, not AutoencoderKL",
        ),
        (lambda f: change(f / "model_index.json", text_encoder_2=[None, None]), "text_encoder_2 is missing, not CLIP"),
        (
            lambda f: change(f / "transformer" / "config.json", _class_name="FluxTransformer2DModel"),
            "transformer/config.json says FluxTransformer2DModel, not SD3Transformer2DModel",
        ),
        (lambda f: (f / "transformer" / "config.json").write_text("{"), "config.json is not JSON; fetch it again"),
        (lambda f: (f / "transformer" / "config.json").unlink(), "config.json cannot be read: No such file"),
    ],
)
def test_a_folder_that_is_no_sd3_checkpoint_is_named_for_what_it_is(pair, spoil, words):
    spoil(pair["large"])
    with pytest.raises(HybridStitchError, match=words) as caught:
        check_checkpoint(pair["large"])
    assert str(pair["large"]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_component_or_a_single_file_is_told_apart_from_a_checkpoint(pair, tmp_path):
    with pytest.raises(
        HybridStitchError, match=r"is one component \(SD3Transformer2DModel\), not a pipeline.*may be it"
    ):
        check_checkpoint(pair["large"] / "transformer")
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "sd3_medium.safetensors").touch()
    with pytest.raises(HybridStitchError, match=r"holds the single file sd3_medium.safetensors: .*from_single_file"):
        check_checkpoint(tmp_path / "single")


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "my-style.safetensors"])
def test_a_lora_is_called_one(tmp_path, name):
    save_file({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.zeros(2, 2)}, tmp_path / name)
    with pytest.raises(HybridStitchError, match=rf"is a LoRA \({name}\), not a model: .*fuse_lora\(\).*") as caught:
        check_checkpoint(tmp_path)
    assert "from_single_file" not in str(caught.value)
    with pytest.raises(HybridStitchError, match=rf"/{name}, is a LoRA, not a model: .*fuse_lora\(\)"):
        recipe_of(tmp_path / name, tmp_path).checkpoint("large")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sd3_medium.safetensors", r"is a single file of weights: a folder in diffusers' .*; convert it .*single_file"),
        ("sd3-Q4.gguf", "is a GGUF file, whose weights are quantized: a folder in diffusers' layout"),
        ("model_index.json", "is a file: a folder in diffusers' layout .* is needed; name the checkpoint's folder"),
        ("notes", r"is a file: a folder in diffusers' layout \(with model_index.json\) is needed"),
    ],
)
def test_a_file_in_place_of_a_checkpoint_is_told_what_it_is(tmp_path, name, words):
    (tmp_path / name).write_text("{}")
    with pytest.raises(HybridStitchError, match=f"the small checkpoint of pair 'small', {tmp_path / name}, {words}"):
        recipe_of(tmp_path, tmp_path / name).checkpoint("small")
    with pytest.raises(HybridStitchError, match=words):
        check_checkpoint(tmp_path / name)


def spoil_t5(folder: Path, gone: str) -> None:
    (folder / "text_encoder_3").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "text_encoder_3" / name).touch()
    (folder / "tokenizer_3").mkdir()
    change(folder / "model_index.json", text_encoder_3=["transformers", "T5EncoderModel"])
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("text_encoder_3", r'lacks the T5 encoder .*: fetch its folder .*, or write "text_encoder_3": \[null, null\]'),
        ("text_encoder_3/model.safetensors", r'lacks the T5 encoder .*, or write "text_encoder_3": \[null, null\]'),
        ("tokenizer_3", "lacks the folder tokenizer_3; fetch it"),
        ("vae", "lacks the folder vae; fetch it"),
        ("scheduler", "lacks the folder scheduler; fetch it"),
    ],
)
def test_a_component_whose_folder_is_missing_is_told_with_what_helps(pair, gone, words):
    spoil_t5(pair["large"], gone)
    with pytest.raises(HybridStitchError, match=words):
        check_checkpoint(pair["large"])


@pytest.mark.parametrize(
    ("component", "key", "value", "words"),
    [
        ("transformer", "in_channels", 16, "latent channels is 4 in the large, 16 in the small"),
        ("transformer", "patch_size", 1, "patch size is 2 in the large, 1 in the small"),
        ("transformer", "joint_attention_dim", 32, "text width is 24 in the large, 32 in the small"),
        ("transformer", "pooled_projection_dim", 8, "pooled text width is 20 in the large, 8 in the small"),
        ("vae", "scaling_factor", 0.18, "VAE scaling factor is 1.5 in the large, 0.18 in the small"),
        ("text_encoder", "hidden_size", 16, "width of text_encoder is 8 in the large, 16 in the small"),
    ],
)
def test_two_models_that_differ_in_what_they_share_are_no_pair(pair, component, key, value, words):
    change(pair["small"] / component / "config.json", **{key: value})
    with pytest.raises(HybridStitchError, match=f"the two models do not form a pair: {words}"):
        check_pair(pair["large"], pair["small"])


def test_two_schedulers_are_no_pair(pair):
    change(pair["small"] / "scheduler" / "scheduler_config.json", shift=1.0)
    with pytest.raises(HybridStitchError, match=r"scheduler setting shift is 3.0 in the large, 1.0 in the small"):
        check_pair(pair["large"], pair["small"])


def test_two_schedulers_that_write_out_other_defaults_are_the_same(pair):
    """What counts is that both give the same noise levels."""
    path = pair["large"] / "scheduler" / "scheduler_config.json"
    content = json.loads(path.read_text())
    assert content.pop("base_image_seq_len") == 256
    content |= {"max_shift": 2.0, "time_shift_type": "linear"}  # neither counts without dynamic shifting
    path.write_text(json.dumps(content))
    check_pair(pair["large"], pair["small"])


def test_two_vaes_of_one_shape_and_other_weights_are_no_pair(pair):
    file = pair["small"] / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file({name: tensor.half() for name, tensor in weights.items()}, file)
    check_pair(pair["large"], pair["small"])  # another dtype is the same VAE
    weights["decoder.conv_out.weight"][-1] += 0.5
    save_file(weights, file)
    with pytest.raises(
        HybridStitchError, match=r"are not the same model: the weights of decoder.conv_out.weight differ"
    ):
        check_pair(pair["large"], pair["small"])


@pytest.mark.parametrize("with_index", [True, False])
def test_the_small_checkpoint_needs_its_transformer_alone(pair, tmp_path, with_index):
    for path in pair["small"].iterdir():
        if path.name == "model_index.json":
            if not with_index:
                path.unlink()
        elif path.name != "transformer":
            shutil.rmtree(path)
    exported = export_pair(recipe_of(**pair), tmp_path / "out")
    assert "small" in exported.written
    geometries = [read_json(exported.folder / role / "graph.json")["geometry"] for role in ("large", "small")]
    assert geometries[0]["vae_factor"] == geometries[1]["vae_factor"] == 2
    described = describe("small", pair["small"], torch.float32, 16)  # as the torch backend and verify do
    load_module(described, torch.device("cpu"))


def test_a_small_model_with_t5_is_no_pair_with_a_large_one_without(pair):
    change(pair["small"] / "model_index.json", text_encoder_3=["transformers", "T5EncoderModel"])
    with pytest.raises(HybridStitchError, match="T5 encoder is no in the large, yes in the small"):
        check_pair(pair["large"], pair["small"])
    check_pair(pair["small"], pair["large"])  # it may lack what the large one has


def test_a_small_checkpoint_of_another_kind_is_refused(pair, tmp_path):
    with pytest.raises(HybridStitchError, match=r"is one component \(SD3Transformer2DModel\), not a pipeline"):
        check_small_checkpoint(pair["small"] / "transformer")
    shutil.rmtree(pair["small"] / "transformer")
    with pytest.raises(HybridStitchError, match=r"transformer/config.json cannot be read: No such file"):
        check_small_checkpoint(pair["small"])
    change(pair["small"] / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(HybridStitchError, match="is a FluxPipeline, not a StableDiffusion3Pipeline"):
        check_small_checkpoint(pair["small"])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(HybridStitchError, match="is not a Stable Diffusion 3 checkpoint"):
        check_small_checkpoint(tmp_path / "nothing")


def test_a_tensor_that_is_missing_or_of_another_shape_is_named(pair):
    file = pair["large"] / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    bias = weights.pop("proj_out.bias")
    save_file(weights, file)
    with pytest.raises(HybridStitchError, match=r"lacks tensor proj_out.bias, which its config.json asks for"):
        TokenTransformer.load(pair["large"], keeps_keys=True)
    save_file({**weights, "proj_out.bias": torch.cat([bias, bias])}, file)
    with pytest.raises(
        HybridStitchError, match=r"tensor proj_out.bias has shape \[32\], its config.json asks for \[16\]"
    ):
        TokenTransformer.load(pair["large"], keeps_keys=True)


def test_text_encoders_that_do_not_fit_the_transformer_are_refused(pair, tmp_path):
    for folder in pair.values():
        change(folder / "transformer" / "config.json", pooled_projection_dim=12)
    with pytest.raises(HybridStitchError, match="the CLIP encoders pool 20 values, the transformer reads 12"):
        export_pair(recipe_of(**pair), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_out_folder_that_cannot_be_written_is_refused(checkpoints, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HybridStitchError, match=r"folder .*file/out cannot be written \(Not a directory\); choose"):
        export_pair(recipe_of(**checkpoints), tmp_path / "file" / "out")


def test_an_unknown_dtype_is_refused(checkpoints, tmp_path):
    with pytest.raises(HybridStitchError, match="dtype 'int8' is unknown; known: float32, float16, bfloat16"):
        export_pair(recipe_of(**checkpoints), tmp_path, dtype="int8")


def test_an_export_never_replaces_a_folder_that_no_export_made(pair, tmp_path):
    before = sorted(pair["large"].rglob("*"))
    with pytest.raises(HybridStitchError, match=r"large was not made by an export and would be replaced"):
        export_pair(recipe_of(**pair), tmp_path)  # the checkpoints themselves lie there
    assert sorted(pair["large"].rglob("*")) == before
    assert not (tmp_path / "assets").exists()
