"""One model of a pair as something to export: a module without weights, its named inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybridstitch.method.geometry import Geometry

from .tensors import TensorSpec

COMPONENTS = ("large", "small", "text_encoder", "text_encoder_2", "text_encoder_3", "vae_decoder")
"""Of a pair, in the order in which they are built."""

SOURCES = {"large": "transformer", "small": "transformer", "vae_decoder": "vae"}
"""A component's folder in its checkpoint, where it is not its name."""

REQUIRED = tuple(name for name in COMPONENTS if name != "text_encoder_3")
"""Without T5, which a pair may lack."""


def group_numbered(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a module, from values named as its inputs: frozen_key.0, frozen_key.1, ... are one list."""
    grouped: dict[str, Any] = {}
    for name, value in values.items():
        base, _, index = name.partition(".")
        if index:
            grouped.setdefault(base, []).append(value)
        else:
            grouped[base] = value
    return grouped


@dataclass(frozen=True)
class Component:
    """A model to export.

    name: its folder in the export. folder: where config.json and the weights lie.
    module: on the meta device, in the dtype of the export; returns a tensor or a tuple in the order of `outputs`.
    renamed: parameters that the checkpoint may store under another, older name.
    position_table: the stored tensor that positions are taken from: no weight of the graph, but it shall lie beside it.
    unread: patterns of stored tensors that are known to have no part in the graph.
    """

    name: str
    folder: Path
    module: nn.Module
    dtype: torch.dtype
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    renamed: Mapping[str, str] = field(default_factory=dict)
    position_table: str | None = None
    unread: tuple[str, ...] = ()
    geometry: Geometry | None = None
    zero_text_tokens: int = 0

    @property
    def kept(self) -> tuple[str, ...]:
        """Stored tensors that are no weights of the graph but shall lie beside it."""
        return (self.position_table,) if self.position_table is not None else ()
