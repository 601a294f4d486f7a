"""The numbers of an SD3 transformer that the method, the engines and the runtime must agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import HybridStitchError
from .size import Size


@dataclass(frozen=True)
class Geometry:
    """An exported transformer, read from its checkpoint (never assumed).

    patch_size p and latent_channels C: a token is p*p*C latent values.
    vae_factor f: pixels per latent cell, along each side.
    heads, head_dim: of every attention; their product is the model's width D.
    attentions: how many image attentions keep keys and values (a dual-attention block has two).
    position_size: side of the square position table, in tokens; pictures are cropped from its middle.
    text_width E, pooled_width P, text_tokens T: the text inputs. With no T5, T counts the many identical
    zero embeddings that stand in for it as one (see docs/decisions.md).
    """

    patch_size: int
    latent_channels: int
    vae_factor: int
    heads: int
    head_dim: int
    attentions: int
    position_size: int
    text_width: int
    pooled_width: int
    text_tokens: int

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def token_width(self) -> int:
        return self.patch_size**2 * self.latent_channels

    def grid(self, size: Size) -> tuple[int, int]:
        """Rows and columns of tokens of a picture.

        Raises:
            HybridStitchError: the size is no multiple of a token's side, or larger than the position table.
        """
        side = self.vae_factor * self.patch_size
        most = self.position_size * side
        if max(size) > most:
            raise HybridStitchError(
                f"size {size} is too large: this model has positions for at most {most} pixels a side"
            )
        if size.width % side or size.height % side:
            near = Size(*(max(side, round(length / side) * side) for length in size))
            raise HybridStitchError(f"size {size} is not a multiple of {side} pixels on both sides; try {near}")
        return size.height // side, size.width // side

    def tokens(self, size: Size) -> int:
        """N, the image tokens of a picture."""
        rows, columns = self.grid(size)
        return rows * columns


def masked_count(tokens: int, ratio: float, bucket: int) -> int:
    """M: ratio * tokens, rounded up to whole buckets, so that what pads a bucket are real tokens; at most all."""
    exact = ratio * tokens
    return min(tokens, math.ceil(exact / bucket - 1e-9) * bucket)
