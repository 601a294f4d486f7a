"""The SD3 transformer on token sequences: one graph for the full run and for the masked run.

Each layer computes what diffusers' JointTransformerBlock computes, with two differences. Tokens come and go
as sequences, in whatever order and number the caller chose; and every image attention may be given keys and
values of tokens that are not computed in this call (frozen ones), joined to its own. Attention does not
care about the order of keys, so nothing is scattered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry

from ..checkpoint import read_config
from ..number_format import check_plain_floats
from ..weights import check_stored, stored_tensors

POSITION_TABLE = "pos_embed.pos_embed"


class TokenTransformer(nn.Module):
    """An SD3 transformer that reads and writes tokens; its parameters keep their names in the checkpoint.

    keeps_keys: take frozen keys and values, and return the fresh ones (the large model of a pair).
    zero_text_tokens: without T5, diffusers appends this many all-zero embeddings to the text. Text has no
        positions, so they stay equal to each other through every layer, and one zero token whose logit as a
        key is raised by log(n) does the same exactly. From 2 on, the last text token stands for that many; in
        16 bits it is there twice, since one bias would be rounded (see `_zero_token_biases`).

    B images, M computed tokens, F frozen tokens, T text tokens; p*p*C values a token, in proj_out's order
    (row, column, channel) both in and out, so that a sampler steps in token space.
    """

    def __init__(self, transformer: SD3Transformer2DModel, *, keeps_keys: bool, zero_text_tokens: int = 0) -> None:
        super().__init__()
        config: Any = transformer.config
        self.keeps_keys = keeps_keys
        self.zero_text_tokens = zero_text_tokens
        self.patch_size: int = config.patch_size
        self.latent_channels: int = config.in_channels
        self.heads: int = config.num_attention_heads
        self.head_dim: int = config.attention_head_dim
        self.position_size: int = config.pos_embed_max_size
        self.text_width: int = config.joint_attention_dim
        self.pooled_width: int = config.pooled_projection_dim

        self.pos_embed = nn.Module()  # without the position table: its rows are an input
        self.pos_embed.proj = transformer.pos_embed.proj
        self.time_text_embed: Any = transformer.time_text_embed
        self.context_embedder = transformer.context_embedder
        self.transformer_blocks = transformer.transformer_blocks
        self.norm_out: Any = transformer.norm_out
        self.proj_out = transformer.proj_out

        blocks: Any = self.transformer_blocks
        self.attentions = sum(2 if block.use_dual_attention else 1 for block in blocks)

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        keeps_keys: bool,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        zero_text_tokens: int = 0,
    ) -> TokenTransformer:
        """With the weights of a checkpoint folder in diffusers' layout (the one that holds `transformer/`).

        Raises:
            HybridStitchError: no SD3 transformer there, or weights missing, damaged, quantized or of another shape.
        """
        module = cls.describe(checkpoint, keeps_keys=keeps_keys, zero_text_tokens=zero_text_tokens)
        stored = stored_tensors(Path(checkpoint) / "transformer")
        state = module.state_dict()
        check_plain_floats(state, stored, Path(checkpoint) / "transformer")
        check_stored(state, stored, Path(checkpoint) / "transformer")
        weights = {name: stored[name].read().to(device=device, dtype=dtype) for name in state}
        module.load_state_dict(weights, assign=True)
        return module.eval().requires_grad_(False)

    @classmethod
    def describe(
        cls,
        checkpoint: Path,
        *,
        keeps_keys: bool,
        zero_text_tokens: int = 0,
        dtype: torch.dtype | None = None,
    ) -> TokenTransformer:
        """From the checkpoint's config alone: parameters on the meta device, no weights read.

        Raises:
            HybridStitchError: the config is missing or no SD3 transformer's.
        """
        config = read_config(Path(checkpoint), "transformer")
        if config.get("_class_name") != "SD3Transformer2DModel":
            raise HybridStitchError(f"checkpoint {checkpoint} holds a {config.get('_class_name')}, no SD3 transformer")
        if not config.get("pos_embed_max_size"):
            raise HybridStitchError(f"checkpoint {checkpoint}: its transformer has no position table to crop")
        with torch.device("meta"):
            transformer: Any = SD3Transformer2DModel.from_config(config)
        module = cls(transformer, keeps_keys=keeps_keys, zero_text_tokens=zero_text_tokens)
        return module.to(dtype or torch.float32).eval().requires_grad_(False)

    def input_names(self) -> list[str]:
        """The graph's inputs, in order."""
        names = ["tokens", "position", "text", "pooled", "timestep"]
        if self.keeps_keys:
            names += _pairs("frozen_key", "frozen_value", self.attentions)
        return names

    def output_names(self) -> list[str]:
        """The graph's outputs, in the order in which `forward` returns them."""
        return ["velocity", *(_pairs("key", "value", self.attentions) if self.keeps_keys else [])]

    def geometry(self, *, vae_factor: int, text_tokens: int) -> Geometry:
        """What method and runtime must know; the VAE and the text encoders say the two arguments."""
        return Geometry(
            patch_size=self.patch_size,
            latent_channels=self.latent_channels,
            vae_factor=vae_factor,
            heads=self.heads,
            head_dim=self.head_dim,
            attentions=self.attentions,
            position_size=self.position_size,
            text_width=self.text_width,
            pooled_width=self.pooled_width,
            text_tokens=text_tokens,
        )

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        text: Tensor,
        pooled: Tensor,
        timestep: Tensor,
        frozen_key: Sequence[Tensor] | None = None,
        frozen_value: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """Velocity of the computed tokens, and their keys and values.

        Args:
            tokens: [B, M, p*p*C].
            position: [B, M, D], the tokens' rows of the cropped position table.
            text: [B, T, E]. pooled: [B, P]. timestep: [B], float32 whatever the model's dtype.
            frozen_key, frozen_value: for each attention [B, heads, F, head_dim], F may be 0; None is F = 0.

        Returns:
            In the order of `output_names()`: velocity [B, M, p*p*C] and, with keeps_keys, for each attention
            the key (after its norm) and the value of the computed tokens, [B, heads, M, head_dim].
        """
        image = self._embed_patches(tokens) + position
        condition = functional.silu(self._embed_condition(timestep, pooled))
        biases = _zero_token_biases(self.zero_text_tokens, tokens.dtype)
        if len(biases) > 1:
            text = torch.cat([text, text[:, -1:]], dim=1)
        context = self.context_embedder(text)
        frozen = list(zip(frozen_key or (), frozen_value or (), strict=True))
        if frozen and len(frozen) != self.attentions:
            raise HybridStitchError(f"{len(frozen)} frozen keys given; this model has {self.attentions} attentions")
        keys = tokens.shape[1] + text.shape[1] + (frozen[0][0].shape[2] if frozen else 0)
        key_bias = _key_bias(image, keys, biases)

        fresh: list[Tensor] = []
        for block in self.transformer_blocks:
            first = len(fresh) // 2
            taken = frozen[first : first + 2] if frozen else [None, None]
            image, context, keys_and_values = _block(block, image, context, condition, taken, key_bias, self.heads)
            fresh += keys_and_values

        scale, shift = _modulation(self.norm_out.linear, condition, 2)
        velocity = self.proj_out(self.norm_out.norm(image) * (1 + scale) + shift)
        return (velocity, *fresh) if self.keeps_keys else (velocity,)

    def _embed_patches(self, tokens: Tensor) -> Tensor:
        """The patch convolution as a linear layer (stride = kernel); it reads (channel, row, column)."""
        projection: Any = self.pos_embed.proj
        patch = tokens.unflatten(2, (self.patch_size**2, self.latent_channels)).transpose(2, 3).flatten(2)
        return functional.linear(patch, projection.weight.flatten(1), projection.bias)

    def _embed_condition(self, timestep: Tensor, pooled: Tensor) -> Tensor:
        """[B, D]. The sinusoid is taken in float32: bfloat16 cannot tell timestep 500 from 501."""
        embed = self.time_text_embed
        sinusoid = embed.time_proj(timestep.float())
        return embed.timestep_embedder(sinusoid.to(pooled.dtype)) + embed.text_embedder(pooled)


def _zero_token_biases(count: int, dtype: torch.dtype) -> list[float]:
    """What is added to the logits of the keys that stand for `count` equal tokens: exp of it sums up to `count`.

    bfloat16 knows no number between 5.53125 and 5.5625: a key with a bias of log(256) would weigh 1.4 % too little.
    So in 16 bits a second key has what the first, rounded down, leaves over; the sum is right to 1e-4.
    """
    if count < 2:
        return []
    weight = math.log(count)
    if dtype not in (torch.bfloat16, torch.float16):
        return [weight]
    spacing = torch.finfo(dtype).eps * 2 ** math.floor(math.log2(weight))
    first = math.floor(weight / spacing) * spacing
    return [first, math.log(count - math.exp(first))]


def _key_bias(like: Tensor, keys: int, biases: Sequence[float]) -> Tensor | None:
    """[1, 1, 1, keys]: the biases on the last keys, zero elsewhere; None leaves attention fused."""
    if not biases:
        return None
    raised = [like.new_full((1, 1, 1, 1), bias) for bias in biases]
    return torch.cat([like.new_zeros(1, 1, 1, keys - len(biases)), *raised], dim=3)


def position_table(checkpoint: Path) -> Tensor:
    """The whole table of a checkpoint folder, [S, S, D] in float32; a picture's rows come from its middle.

    Raises:
        HybridStitchError: the checkpoint has no table, or not a square one.
    """
    folder = Path(checkpoint) / "transformer"
    stored = stored_tensors(folder).get(POSITION_TABLE)
    if stored is None:
        raise HybridStitchError(f"{folder} lacks tensor {POSITION_TABLE}: it is no SD3 transformer")
    side = math.isqrt(math.prod(stored.shape[:-1]))
    if len(stored.shape) != 3 or side**2 != stored.shape[1]:
        raise HybridStitchError(f"{folder}: the position table has shape {stored.shape}, not [1, side*side, width]")
    return stored.read().float().reshape(side, side, stored.shape[2])


def _block(
    block: Any,
    image: Tensor,
    context: Tensor,
    condition: Tensor,
    frozen: Sequence[tuple[Tensor, Tensor] | None],
    key_bias: Tensor | None,
    heads: int,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """One JointTransformerBlock: image and context after it, and each attention's fresh key and value.

    In the last block the context only gives keys and values, so it asks no queries.
    """
    dual, last = block.use_dual_attention, block.context_pre_only
    shift, scale, gate, ff_shift, ff_scale, ff_gate, *second = _modulation(
        block.norm1.linear, condition, 9 if dual else 6
    )
    normal = block.norm1.norm(image)
    if last:
        text_scale, text_shift = _modulation(block.norm1_context.linear, condition, 2)
        text_rest: list[Tensor] = []
    else:
        text_shift, text_scale, *text_rest = _modulation(block.norm1_context.linear, condition, 6)
    text_normal = block.norm1_context.norm(context) * (1 + text_scale) + text_shift

    attention = block.attn
    query, key, value = _image_heads(attention, normal * (1 + scale) + shift, heads)
    fresh = [key, value]
    key, value = _join(frozen[0], key, value)
    key = torch.cat([key, _heads(attention.add_k_proj, attention.norm_added_k, text_normal, heads)], dim=2)
    value = torch.cat([value, _heads(attention.add_v_proj, None, text_normal, heads)], dim=2)
    if not last:
        query = torch.cat([query, _heads(attention.add_q_proj, attention.norm_added_q, text_normal, heads)], dim=2)
    attended = _attend(query, key, value, key_bias)
    length = image.shape[1]
    image = image + gate * attention.to_out[0](attended if last else attended[:, :length])

    if dual:
        shift, scale, gate = second
        query, key, value = _image_heads(block.attn2, normal * (1 + scale) + shift, heads)
        fresh += [key, value]
        image = image + gate * block.attn2.to_out[0](_attend(query, *_join(frozen[1], key, value), None))
    image = image + ff_gate * block.ff(block.norm2(image) * (1 + ff_scale) + ff_shift)

    if not last:
        text_gate, text_ff_shift, text_ff_scale, text_ff_gate = text_rest
        context = context + text_gate * attention.to_add_out(attended[:, length:])
        text_normal = block.norm2_context(context) * (1 + text_ff_scale) + text_ff_shift
        context = context + text_ff_gate * block.ff_context(text_normal)
    return image, context, fresh


def _modulation(linear: nn.Module, condition: Tensor, count: int) -> list[Tensor]:
    """`count` vectors [B, 1, D], not by chunk, which becomes a sequence in ONNX that TensorRT refuses."""
    vectors = linear(condition).unflatten(1, (count, 1, -1))
    return [vectors.select(1, index) for index in range(count)]


def _image_heads(attention: Any, image: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _heads(attention.to_q, attention.norm_q, image, heads),
        _heads(attention.to_k, attention.norm_k, image, heads),
        _heads(attention.to_v, None, image, heads),
    )


def _heads(linear: nn.Module, norm: nn.Module | None, sequence: Tensor, heads: int) -> Tensor:
    """[B, L, D] -> [B, heads, L, head_dim], normalised per head where the model does so."""
    split = linear(sequence).unflatten(2, (heads, -1))
    return (split if norm is None else _normalize(norm, split)).transpose(1, 2)


def _normalize(norm: nn.Module, heads: Tensor) -> Tensor:
    """In a graph RMSNorm divides by the root: ONNX Runtime fuses that, but no product with a reciprocal root."""
    if not (torch.compiler.is_exporting() and isinstance(norm, RMSNorm)):
        return norm(heads)
    mean_square = heads.float().pow(2).mean(-1, keepdim=True)
    normal = (heads / torch.sqrt(mean_square + norm.eps)).to(heads.dtype)
    return normal if norm.weight is None else normal * norm.weight


def _join(frozen: tuple[Tensor, Tensor] | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    if frozen is None:
        return key, value
    return torch.cat([key, frozen[0]], dim=2), torch.cat([value, frozen[1]], dim=2)


def _attend(query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor | None) -> Tensor:
    """Softmax attention, [B, heads, L, head_dim] -> [B, L, D].

    In a graph it is written out, with the scale on the query before the first product: the pattern that
    TensorRT fuses.
    """
    if torch.compiler.is_exporting():
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        attended = torch.softmax(logits if key_bias is None else logits + key_bias, dim=-1) @ value
    else:
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=key_bias)
    return attended.transpose(1, 2).flatten(2)


def _pairs(key: str, value: str, count: int) -> list[str]:
    return [f"{name}.{index}" for index in range(count) for name in (key, value)]
