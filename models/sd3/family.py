"""Stable Diffusion 3 as a family of models: the functions that `Family` (models/family.py) asks for."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from hybridstitch.method.tokens import crop_positions

from ..checkpoint import has_component
from ..component import Component
from .checkpoint import NAME, PIPELINE, TOKENIZERS, TRANSFORMER, check_checkpoint, check_small_checkpoint
from .compatibility import check_pair
from .components import (
    check_text_widths,
    clip_text_encoder,
    describe,
    t5_text_encoder,
    text_shape,
    transformer,
    vae_decoder,
    vae_factor,
)
from .token_transformer import position_table as positions

__all__ = ["NAME", "PIPELINE", "TRANSFORMER", "assets", "check", "components", "describe", "full_inputs", "positions"]


def check(large: Path, small: Path) -> None:
    """Of the small checkpoint, which may lack what both share, the transformer alone must be there."""
    check_checkpoint(large)
    check_small_checkpoint(small)
    check_pair(large, small)


def components(large: Path, small: Path, dtype: torch.dtype, max_sequence_length: int) -> tuple[Component, ...]:
    """Both transformers, both CLIP encoders, T5 where the checkpoint has it, and the VAE decoder.

    The VAE decoder and T5 stay out of float16, which they overflow.
    """
    text = text_shape(large, max_sequence_length)
    steady = torch.float32 if dtype == torch.float16 else dtype
    factor = vae_factor(large)
    transformers = [
        transformer(large, "large", text, dtype, keeps_keys=True, factor=factor),
        transformer(small, "small", text, dtype, keeps_keys=False, factor=factor),
    ]
    encoders = [clip_text_encoder(large, name, text, dtype) for name in ("text_encoder", "text_encoder_2")]
    if text.t5_tokens:
        encoders.append(t5_text_encoder(large, "text_encoder_3", text, steady))
    check_text_widths(large, transformers[0], encoders)
    return (*transformers, *encoders, vae_decoder(large, steady))


def assets(checkpoint: Path) -> tuple[str, ...]:
    """The third tokenizer is T5's."""
    with_t5 = has_component(checkpoint, "text_encoder_3")
    return (*(TOKENIZERS if with_t5 else TOKENIZERS[:2]), "scheduler")


def full_inputs(
    tokens: Tensor, timestep: Tensor, *, text: Tensor, pooled: Tensor, positions: Tensor
) -> dict[str, Tensor]:
    """Positions are rows of the table: those of a square picture; beyond the whole table its rows come again."""
    batch, count = tokens.shape[:2]
    side = min(math.ceil(math.sqrt(count)), positions.shape[0])
    rows = crop_positions(positions, side, side)
    rows = rows.repeat(math.ceil(count / len(rows)), 1)[:count].to(tokens)
    return {
        "tokens": tokens,
        "position": rows.expand(batch, -1, -1).contiguous(),
        "text": text,
        "pooled": pooled,
        "timestep": timestep,
    }
