"""Small random SD3 models, and the same inputs for diffusers and for the token-space transformer."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor

from hybridstitch.models.sd3.token_transformer import TokenTransformer

NARROW: dict[str, Any] = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 24,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 20,
    "pos_embed_max_size": 8,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "qk_norm": {"qk_norm": "rms_norm"},
    "dual attention": {"qk_norm": "rms_norm", "dual_attention_layers": (0,)},
    "dual attention, no norm": {"dual_attention_layers": (0, 1)},
}


def random_transformer(seed: int = 0, **config: Any) -> SD3Transformer2DModel:
    """A model whose every weight matters: norms and biases are random too."""
    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(**{**NARROW, **config}).eval().requires_grad_(False)
    for name, parameter in transformer.named_parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        parameter.normal_(1 if "norm" in name and parameter.dim() == 1 else 0, 0.1 if fan_in == 1 else fan_in**-0.5)
    return transformer


def random_inputs(transformer: SD3Transformer2DModel, rows: int, columns: int, batch: int = 2) -> dict[str, Tensor]:
    """Inputs of the token-space transformer for a picture of that many tokens, and its `latents`."""
    config: Any = transformer.config
    generator = torch.Generator().manual_seed(1)
    patch = config.patch_size
    latents = torch.randn(batch, config.in_channels, rows * patch, columns * patch, generator=generator)
    position: Any = transformer.pos_embed.cropped_pos_embed(rows * patch, columns * patch)
    return {
        "latents": latents,
        "tokens": patchify(latents, patch),
        "position": position.expand(batch, -1, -1),
        "text": torch.randn(batch, 7, config.joint_attention_dim, generator=generator),
        "pooled": torch.randn(batch, config.pooled_projection_dim, generator=generator),
        "timestep": torch.tensor([501.25, 500.5, 3.0, 999.0])[:batch],
    }


def patchify(latents: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] -> [B, N, p*p*C] in the order (row, column, channel)."""
    batch, channels, height, width = latents.shape
    grid = latents.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def run_diffusers(transformer: SD3Transformer2DModel, inputs: dict[str, Tensor]) -> Tensor:
    """Diffusers' velocity, as tokens."""
    output: Any = transformer(
        hidden_states=inputs["latents"],
        encoder_hidden_states=inputs["text"],
        pooled_projections=inputs["pooled"],
        timestep=inputs["timestep"],
        return_dict=False,
    )
    return patchify(output[0], transformer.config["patch_size"])


def run_tokens(module: TokenTransformer, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """All outputs by name."""
    frozen = {
        kind: [inputs[f"{kind}.{index}"] for index in range(module.attentions) if f"{kind}.{index}" in inputs]
        for kind in ("frozen_key", "frozen_value")
    }
    plain = {name: inputs[name] for name in ("tokens", "position", "text", "pooled", "timestep")}
    return dict(zip(module.output_names(), module(**plain, **frozen), strict=True))
