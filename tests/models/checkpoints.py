"""Small Stable Diffusion 3 checkpoints on disk, as diffusers would save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from hybridstitch.pairs.recipe import Recipe

from .architectures import random_transformer

CLIP_TOKENS = 10
END = 60  # the largest token id


def save_checkpoint(
    folder: Path, *, dtype: torch.dtype = torch.float32, t5: bool = False, max_shard_size: str = "10GB", **config: Any
) -> Path:
    """A whole checkpoint with random weights; the parts beside the transformer are always the same."""
    models: dict[str, Any] = {"transformer": random_transformer(**config), "vae": vae()}
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusion3Pipeline",
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    for suffix, width in (("", 8), ("_2", 12)):
        models[f"text_encoder{suffix}"] = clip(width)
        save_tokenizer(folder / f"tokenizer{suffix}", "CLIPTokenizer", CLIP_TOKENS)
        index[f"text_encoder{suffix}"] = ["transformers", "CLIPTextModelWithProjection"]
        index[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]
    if t5:
        models["text_encoder_3"] = t5_encoder()
        save_tokenizer(folder / "tokenizer_3", "T5TokenizerFast", 512)
    index["text_encoder_3"] = ["transformers", "T5EncoderModel"] if t5 else [None, None]
    index["tokenizer_3"] = ["transformers", "T5TokenizerFast"] if t5 else [None, None]
    for name, model in models.items():
        model.to(dtype).save_pretrained(folder / name, max_shard_size=max_shard_size)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def save_tokenizer(folder: Path, name: str, length: int) -> None:
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, "model_max_length": length}))


def clip(width: int, eos: int = END) -> Any:
    torch.manual_seed(width)
    config = CLIPTextConfig(
        vocab_size=END + 1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        projection_dim=10,
        bos_token_id=1,
        eos_token_id=eos,
        pad_token_id=END,
        hidden_act="quick_gelu",
    )
    return randomised(CLIPTextModelWithProjection(config))


def t5_encoder() -> Any:
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=50, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
    )
    return randomised(T5EncoderModel(config))


def vae() -> Any:
    torch.manual_seed(4)
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (4, 8),
        "latent_channels": 4,
        "norm_num_groups": 2,
        "layers_per_block": 1,
        "scaling_factor": 1.5,
        "shift_factor": 0.06,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    return randomised(AutoencoderKL(**settings))


def randomised(model: Any) -> Any:
    """The model with every weight random, those included that start as zeros or ones."""
    for parameter in model.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        parameter.data.normal_(0, 0.2 if fan_in == 1 else fan_in**-0.5)
    return model.eval().requires_grad_(False)


def recipe_of(large: Path, small: Path, **settings: Any) -> Recipe:
    """A recipe of two checkpoint folders."""
    content = {
        "name": "small",
        "large": {"path": str(large)},
        "small": {"path": str(small)},
        "dtype": "float32",
        "max_sequence_length": 16,
        "profiles": {"sizes": ["16x16"]},
        "defaults": {"size": "16x16"},
    }
    return Recipe.model_validate({**content, **settings})
