"""What cannot be exported is refused in one line that says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridstitch.export.pair import export_pair
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.checkpoint import check_checkpoint
from hybridstitch.models.compatibility import check_pair
from hybridstitch.models.token_transformer import TokenTransformer

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


def test_the_small_checkpoint_may_lack_what_both_share(pair):
    for name in ("vae", "text_encoder", "text_encoder_2"):
        shutil.rmtree(pair["small"] / name)
    check_pair(pair["large"], pair["small"])


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
