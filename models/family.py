"""A family of models: all that export, verification and evaluation must know of an architecture, behind one protocol.

A family is a module of functions in a room of its own (`sd3/family.py`); this is the one place that names them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError

from .checkpoint import check_folder, read_config, read_json, what_it_is
from .component import Component
from .sd3 import family as stable_diffusion_3


class Family(Protocol):
    """What a module must hold to be a family.

    NAME: as people call it. PIPELINE: how diffusers' classes of its pipelines begin. TRANSFORMER: diffusers' class of
    its transformer.
    """

    NAME: str
    PIPELINE: str
    TRANSFORMER: str

    def check(self, large: Path, small: Path) -> None:
        """Make sure that two checkpoints are of this family, in parts that can be exported, and form a pair.

        Raises:
            HybridStitchError: the message names what is wrong.
        """
        ...

    def components(
        self, large: Path, small: Path, dtype: torch.dtype, max_sequence_length: int
    ) -> tuple[Component, ...]:
        """All components of a pair, as they are exported: their inputs, outputs and geometry, from the configs alone.

        Text encoders and VAE are the large checkpoint's.

        Args:
            max_sequence_length: the longest prompt in tokens, where the family's text encoder leaves a choice.

        Raises:
            HybridStitchError: the components do not fit each other.
        """
        ...

    def describe(self, component: str, checkpoint: Path, dtype: torch.dtype, zero_text_tokens: int) -> Component:
        """One component as export made it, by its name. What the checkpoint alone does not say is not meant: fixed
        lengths of text, and a geometry's number of text tokens and pixels for each latent cell.

        Raises:
            HybridStitchError: the checkpoint does not hold it.
        """
        ...

    def assets(self, checkpoint: Path) -> tuple[str, ...]:
        """The folders of a checkpoint that a runtime needs beside the engines: tokenizers and scheduler."""
        ...

    def positions(self, checkpoint: Path) -> Tensor:
        """What the positions of any picture are taken from: a table [S, S, D], in float32 on the CPU.

        Raises:
            HybridStitchError: the checkpoint has none.
        """
        ...

    def full_inputs(
        self, tokens: Tensor, timestep: Tensor, *, text: Tensor, pooled: Tensor, positions: Tensor
    ) -> dict[str, Tensor]:
        """A transformer's inputs by name, for a call that computes all tokens; without the frozen keys and values.

        Args:
            tokens: [B, N, p*p*C], the first N of a square picture. timestep: [B]. text: [B, T, E]. pooled: [B, P].
            positions: as `positions` gives them.
        """
        ...


FAMILIES: tuple[Family, ...] = (stable_diffusion_3,)


def family_of(checkpoint: Path) -> Family:
    """The family of a checkpoint, told from model_index.json or, without one, from its transformer's config.

    Raises:
        HybridStitchError: it is of none that we know, or no checkpoint; the message says what it is instead.
    """
    check_folder(checkpoint)
    if (checkpoint / "model_index.json").is_file():
        pipeline = str(read_json(checkpoint / "model_index.json").get("_class_name"))
        for family in FAMILIES:
            if pipeline.startswith(family.PIPELINE):
                return family
        supported = " or a ".join(f"{family.PIPELINE}Pipeline" for family in FAMILIES)
        raise HybridStitchError(f"checkpoint {checkpoint} is a {pipeline}, not a {supported}")
    if not (checkpoint / "transformer" / "config.json").is_file():
        raise HybridStitchError(what_it_is(checkpoint, " or ".join(family.NAME for family in FAMILIES)))
    transformer = read_config(checkpoint, "transformer").get("_class_name")
    for family in FAMILIES:
        if transformer == family.TRANSFORMER:
            return family
    supported = " or ".join(family.TRANSFORMER for family in FAMILIES)
    raise HybridStitchError(f"checkpoint {checkpoint}: transformer/config.json says {transformer}, not {supported}")
