"""CLIP and T5 text encoders as plain graphs: token ids in, embeddings out, weights named as in the checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ClipTextEncoder(nn.Module):
    """transformers' CLIPTextModelWithProjection, with the two outputs that Stable Diffusion 3 reads.

    Written out because the original builds its causal mask and collects its hidden states in ways that change with
    its version and do not survive tracing. heads, head_dim and the rest are read from the model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text_model = model.text_model
        self.text_projection = model.text_projection
        self.heads: int = model.config.num_attention_heads
        self.eos: int = model.config.eos_token_id

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states before the last layer [B, L, W] and the projected end-of-text state [B, P].

        Args:
            input_ids: [B, L] int64, L at most the model's number of positions.
        """
        text: Any = self.text_model
        length = input_ids.shape[1]
        embeddings = text.embeddings
        positions = embeddings.position_embedding.weight
        if length < positions.shape[0]:
            positions = positions[:length]
        state = embeddings.token_embedding(input_ids) + positions
        mask = _causal_mask(length, state)
        hidden = state
        for layer in text.encoder.layers:
            hidden = state
            state = state + self._attend(layer.self_attn, layer.layer_norm1(state), mask)
            state = state + layer.mlp(layer.layer_norm2(state))
        end = _end_of_text(input_ids, self.eos)[:, None, None].expand(-1, -1, state.shape[2])
        pooled = torch.gather(text.final_layer_norm(state), 1, end).squeeze(1)
        return hidden, self.text_projection(pooled)

    def _attend(self, attention: Any, state: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            projection(state).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + mask
        attended = torch.softmax(logits.float(), dim=-1).to(value.dtype) @ value
        return attention.out_proj(attended.transpose(1, 2).flatten(2))


class T5TextEncoder(nn.Module):
    """transformers' T5EncoderModel, without its key mask: Stable Diffusion 3 lets padding take part."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.shared = model.shared
        self.encoder = nn.Module()
        self.encoder.block = model.encoder.block
        self.encoder.final_layer_norm = model.encoder.final_layer_norm
        self.heads: int = model.config.num_heads
        self.buckets: int = model.config.relative_attention_num_buckets
        self.distance: int = model.config.relative_attention_max_distance

    def forward(self, input_ids: Tensor) -> Tensor:
        """The last hidden state [B, L, E] of token ids [B, L] int64."""
        encoder: Any = self.encoder
        state = self.shared(input_ids)
        bias = self._position_bias(input_ids.shape[1], input_ids.device)
        for block in encoder.block:
            attention, feed_forward = block.layer[0], block.layer[-1]
            normal = attention.layer_norm(state)
            state = state + self._attend(attention.SelfAttention, normal, bias)
            state = feed_forward(state)
        return encoder.final_layer_norm(state)

    def _attend(self, attention: Any, state: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            projection(state).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (attention.q, attention.k, attention.v)
        )
        logits = query @ key.transpose(2, 3) + bias  # T5 does not scale
        attended = torch.softmax(logits.float(), dim=-1).to(value.dtype) @ value
        return attention.o(attended.transpose(1, 2).flatten(2))

    def _position_bias(self, length: int, device: torch.device) -> Tensor:
        """[1, heads, L, L] from the first block's table of relative distances."""
        encoder: Any = self.encoder
        attention = encoder.block[0].layer[0].SelfAttention
        place = torch.arange(length, device=device)
        bucket = attention._relative_position_bucket(
            place[None, :] - place[:, None], num_buckets=self.buckets, max_distance=self.distance
        )
        return attention.relative_attention_bias(bucket).permute(2, 0, 1).unsqueeze(0)


def _causal_mask(length: int, like: Tensor) -> Tensor:
    """[L, L]: the lowest number of the dtype where a key comes after its query."""
    place = torch.arange(length, device=like.device)
    lowest = torch.full((length, length), torch.finfo(like.dtype).min, dtype=like.dtype, device=like.device)
    return torch.where(place[None, :] > place[:, None], lowest, torch.zeros_like(lowest))


def _end_of_text(input_ids: Tensor, eos: int) -> Tensor:
    """[B]: where each text ends.

    As in CLIPTextModel: the first end token, or with the old configs' eos_token_id of 2 the first largest id. The
    earlier place scores higher, so that the maximum has no ties, which runtimes break differently.
    """
    ids = input_ids.float()
    ends = ids == (ids.amax(dim=1, keepdim=True) if eos == 2 else float(eos))
    earlier = torch.arange(ids.shape[1], 0, -1, device=ids.device, dtype=torch.float32)
    return (ends.float() * earlier).argmax(dim=1)
