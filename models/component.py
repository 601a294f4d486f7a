"""One model of a pair as something to export: a module without weights, its named inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def _as_keywords(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(values)


@dataclass(frozen=True)
class Component:
    """A model to export.

    name: its folder in the export. folder: where config.json and the weights lie.
    module: on the meta device, in the dtype of the export; returns a tensor or a tuple in the order of `outputs`.
    arguments: turns values named as the inputs into keyword arguments of the module.
    renamed: parameters that the checkpoint may store under another, older name.
    kept: stored tensors that are no weights of the graph but shall lie beside it.
    unread: patterns of stored tensors that are known to have no part in the graph.
    """

    name: str
    folder: Path
    module: nn.Module
    dtype: torch.dtype
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]] = _as_keywords
    renamed: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    geometry: Geometry | None = None
    zero_text_tokens: int = 0
