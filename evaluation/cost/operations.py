"""Floating-point operations of a transformer's call, counted from its graph: no weights are read."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hybridstitch.models.sd3.token_transformer import TokenTransformer


def count_operations(module: TokenTransformer, rows: int, computed: int, frozen: int, text: int) -> int:
    """Operations of matrix products, two for each multiplication and addition; all else is small beside them.

    A masked call computes all text tokens, as a full one does, and its queries meet the keys of all tokens: its share
    of the operations is larger than M / N.

    Args:
        module: with its parameters on the meta device (`TokenTransformer.describe`).
        rows: of the engine's batch, two for each guided picture. computed: M. frozen: F. text: T.
    """

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta")

    keys = [empty(rows, module.heads, frozen, module.head_dim)] * (module.attentions if module.keeps_keys else 0)
    width = module.heads * module.head_dim
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(
            empty(rows, computed, module.patch_size**2 * module.latent_channels),
            empty(rows, computed, width),
            empty(rows, text, module.text_width),
            empty(rows, module.pooled_width),
            empty(rows),
            keys or None,
            keys or None,
        )
    return counter.get_total_flops()
