"""Floating-point operations of a transformer's call, counted from its graph: no weights are read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from hybridstitch.engines.profiles import resolve
from hybridstitch.models.component import Component, group_numbered


def count_operations(transformer: Component, lengths: Mapping[str, int]) -> int:
    """Operations of matrix products, two for each multiplication and addition; all else is small beside them.

    A masked call computes all text tokens, as a full one does, and its queries meet the keys of all tokens: its share
    of the operations is larger than M / N.

    Args:
        transformer: as its family describes it, without weights.
        lengths: of its dynamic dimensions: B rows of the engine's batch, two for each guided picture, M computed, F
            frozen and T text tokens.
    """
    values = {
        name: torch.empty(resolve(spec.dims, lengths), dtype=getattr(torch, spec.dtype), device="meta")
        for name, spec in transformer.inputs.items()
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        transformer.module(**group_numbered(values))
    return counter.get_total_flops()
