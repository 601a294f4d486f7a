"""A checkpoint's models as components to export, described by their configs alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from hybridstitch.method.errors import HybridStitchError

from ..checkpoint import has_component, read_config, read_json
from ..component import Component
from ..tensors import TensorSpec
from .text_encoder import ClipTextEncoder, T5TextEncoder
from .token_transformer import POSITION_TABLE, TokenTransformer
from .vae_decoder import VaeDecoder


@dataclass(frozen=True)
class TextShape:
    """The text that a checkpoint's encoders make of a prompt.

    clip_tokens: length of both CLIP texts. t5_tokens: length of the T5 text, 0 without T5.
    zero_tokens: how many all-zero embeddings one text token stands for (without T5).
    """

    clip_tokens: int
    t5_tokens: int
    zero_tokens: int

    @property
    def tokens(self) -> int:
        """T, the text tokens that the transformer sees."""
        return self.clip_tokens + (self.t5_tokens or 1)


def text_shape(checkpoint: Path, max_sequence_length: int) -> TextShape:
    """Read it from the tokenizer and the encoders; max_sequence_length as in StableDiffusion3Pipeline."""
    positions = min(
        read_config(checkpoint, name).get("max_position_embeddings", 77) for name in ("text_encoder", "text_encoder_2")
    )
    tokenizer = checkpoint / "tokenizer" / "tokenizer_config.json"
    clip_tokens = min(positions, int(read_json(tokenizer).get("model_max_length", positions)))
    if has_component(checkpoint, "text_encoder_3"):
        return TextShape(clip_tokens, max_sequence_length, 0)
    return TextShape(clip_tokens, 0, max_sequence_length)


def vae_factor(checkpoint: Path) -> int:
    """f, pixels per latent cell."""
    return 2 ** (len(read_config(checkpoint, "vae")["block_out_channels"]) - 1)


def transformer(
    checkpoint: Path, name: str, text: TextShape, dtype: torch.dtype, *, keeps_keys: bool, factor: int | None = None
) -> Component:
    """The transformer in token space. factor: pixels per latent cell; by default what the checkpoint's VAE says."""
    module = TokenTransformer.describe(
        checkpoint, keeps_keys=keeps_keys, zero_text_tokens=text.zero_tokens, dtype=dtype
    )
    factor = vae_factor(checkpoint) if factor is None else factor
    geometry = module.geometry(vae_factor=factor, text_tokens=text.tokens)
    width, token = geometry.width, geometry.token_width
    inputs = {
        "tokens": TensorSpec.of(dtype, "B", "M", token),
        "position": TensorSpec.of(dtype, "B", "M", width),
        "text": TensorSpec.of(dtype, "B", "T", geometry.text_width),
        "pooled": TensorSpec.of(dtype, "B", geometry.pooled_width),
        "timestep": TensorSpec.of(torch.float32, "B"),
    }
    velocity = TensorSpec.of(dtype, "B", "M", token)
    frozen = TensorSpec.of(dtype, "B", geometry.heads, "F", geometry.head_dim)
    fresh = TensorSpec.of(dtype, "B", geometry.heads, "M", geometry.head_dim)
    return Component(
        name=name,
        folder=checkpoint / "transformer",
        module=module,
        dtype=dtype,
        inputs={name: inputs.get(name, frozen) for name in module.input_names()},
        outputs={name: velocity if name == "velocity" else fresh for name in module.output_names()},
        position_table=POSITION_TABLE,
        geometry=geometry,
        zero_text_tokens=text.zero_tokens,
    )


def clip_text_encoder(checkpoint: Path, name: str, text: TextShape, dtype: torch.dtype) -> Component:
    """A CLIP text encoder: token ids -> hidden and pooled."""
    config = CLIPTextConfig.from_dict(read_config(checkpoint, name))
    with torch.device("meta"):
        module = ClipTextEncoder(CLIPTextModelWithProjection(config))
    return Component(
        name=name,
        folder=checkpoint / name,
        module=_frozen(module, dtype),
        dtype=dtype,
        inputs={"input_ids": TensorSpec.of(torch.int64, "B", text.clip_tokens)},
        outputs={
            "hidden": TensorSpec.of(dtype, "B", text.clip_tokens, config.hidden_size),
            "pooled": TensorSpec.of(dtype, "B", module.text_projection.out_features),
        },
        unread=("*.position_ids",),  # a constant that older versions of transformers stored
    )


def t5_text_encoder(checkpoint: Path, name: str, text: TextShape, dtype: torch.dtype) -> Component:
    """The T5 encoder: token ids -> hidden."""
    config = T5Config.from_dict(read_config(checkpoint, name))
    with torch.device("meta"):
        module = T5TextEncoder(T5EncoderModel(config))
    return Component(
        name=name,
        folder=checkpoint / name,
        module=_frozen(module, dtype),
        dtype=dtype,
        inputs={"input_ids": TensorSpec.of(torch.int64, "B", text.t5_tokens)},
        outputs={"hidden": TensorSpec.of(dtype, "B", text.t5_tokens, config.d_model)},
        renamed={"shared.weight": "encoder.embed_tokens.weight"},
        unread=("decoder.*",),  # of a whole T5; T5EncoderModel ignores it too
    )


def vae_decoder(checkpoint: Path, dtype: torch.dtype) -> Component:
    """The VAE decoder: latents -> picture."""
    config: Any = read_config(checkpoint, "vae")
    with torch.device("meta"):
        module: Any = VaeDecoder(AutoencoderKL.from_config(config))
    names = [name for name, _ in module.named_parameters()]
    return Component(
        name="vae_decoder",
        folder=checkpoint / "vae",
        module=_frozen(module, dtype),
        dtype=dtype,
        inputs={"latents": TensorSpec.of(dtype, "B", config["latent_channels"], "h", "w")},
        outputs={"image": TensorSpec.of(dtype, "B", config["out_channels"], "H", "W")},
        renamed={name: old for name in names if (old := _older_name(name)) != name},
        unread=("encoder.*", "quant_conv.*"),  # the half that makes latents of pictures
    )


def _frozen(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    return module.to(dtype).eval().requires_grad_(False)


def _older_name(name: str) -> str:
    """What diffusers called the weights of the VAE's attention before 0.18; many checkpoints still do."""
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


def check_text_widths(checkpoint: Path, transformer: Component, encoders: list[Component]) -> None:
    """Make sure that the text encoders give what the transformer reads.

    Raises:
        HybridStitchError: their widths do not fit the transformer's.
    """
    assert transformer.geometry is not None
    widths = {name: 0 for component in encoders for name in component.outputs}
    for component in encoders[:2]:
        for name, spec in component.outputs.items():
            widths[name] += int(spec.dims[-1])
    geometry = transformer.geometry
    if widths["pooled"] != geometry.pooled_width:
        raise HybridStitchError(
            f"checkpoint {checkpoint}: the CLIP encoders pool {widths['pooled']} values, "
            f"the transformer reads {geometry.pooled_width}"
        )
    if widths["hidden"] > geometry.text_width:
        raise HybridStitchError(
            f"checkpoint {checkpoint}: the CLIP encoders give {widths['hidden']} values a token, "
            f"the transformer reads {geometry.text_width}"
        )
    for component in encoders[2:]:
        if component.outputs["hidden"].dims[-1] != geometry.text_width:
            raise HybridStitchError(
                f"checkpoint {checkpoint}: T5 gives {component.outputs['hidden'].dims[-1]} values a token, "
                f"the transformer reads {geometry.text_width}"
            )


def describe(component: str, checkpoint: Path, dtype: torch.dtype, zero_text_tokens: int) -> Component:
    """What export made the component of: its module, without weights.

    Raises:
        HybridStitchError: the checkpoint does not hold it.
    """

    text = TextShape(0, 0, zero_text_tokens)  # the lengths are the graph's alone; a module takes any
    if component in ("large", "small"):  # likewise the factor, which a small checkpoint without VAE could not tell
        return transformer(checkpoint, component, text, dtype, keeps_keys=component == "large", factor=1)
    if component == "vae_decoder":
        return vae_decoder(checkpoint, dtype)
    if component == "text_encoder_3":
        return t5_text_encoder(checkpoint, component, text, dtype)
    return clip_text_encoder(checkpoint, component, text, dtype)
