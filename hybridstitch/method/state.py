"""What a run is made of between two steps: tensors that every step reads and writes in place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, get_type_hints

import torch
from torch import Tensor

from .masks import Mask


@dataclass(frozen=True)
class Trend:
    """How the velocity changes from one full step to the next, where held tokens are moved on or corrected.

    velocity: of the last full step. slope: the change of it for each unit of sigma that held tokens go on with.
    levels: the last full step's sigma, how far it was from the full step before (negative), and what held steps since
    then come to: the sum of stride * (their sigma - the full step's).
    """

    velocity: Annotated[Tensor, "B", "N", "W"]
    slope: Annotated[Tensor, "B", "N", "W"]
    levels: Annotated[Tensor, 3]

    @cached_property
    def sigma(self) -> Tensor:
        return self.levels[0]

    @cached_property
    def span(self) -> Tensor:
        return self.levels[1]

    @cached_property
    def held(self) -> Tensor:
        return self.levels[2]


@dataclass(frozen=True)
class State:
    """The tensors of B images of N tokens of width W, of which a hybrid step computes M with the large model and
    leaves F = N - M frozen. They stay where they are, so that a step can be captured once and replayed.

    x: the noisy latent. velocity: the step's, as stitched and corrected. estimate: its clean-image estimate
    x0 = x - sigma * velocity, where a step keeps it; before, full_estimate: those of the last step and of the last
    full one.
    sketch, masked_velocity: what the small and the large model say in a hybrid step.
    level: sigma, the next step's sigma, what lies between them, and the timestep. index: the step's number, from 0.
    difference, measured_at: the carried residual, and the sigma at which each token's was measured.
    guidance, exponent: of each image, the guidance scale and the residual's exponent.
    computed, frozen: the mask. refined: the hybrid steps that computed each token.
    trend: None where no step of the program remembers a velocity.
    """

    x: Annotated[Tensor, "B", "N", "W"]
    velocity: Annotated[Tensor, "B", "N", "W"]
    estimate: Annotated[Tensor, "B", "N", "W"]
    before: Annotated[Tensor, "B", "N", "W"]
    full_estimate: Annotated[Tensor, "B", "N", "W"]
    sketch: Annotated[Tensor, "B", "N", "W"]
    masked_velocity: Annotated[Tensor, "B", "M", "W"]
    level: Annotated[Tensor, 4]
    index: Annotated[Tensor, 1]
    difference: Annotated[Tensor, "B", "N", "W"]
    measured_at: Annotated[Tensor, "B", "N", 1]
    guidance: Annotated[Tensor, "B", 1, 1]
    exponent: Annotated[Tensor, "B", 1, 1]
    computed: Annotated[Tensor, "B", "M"]
    frozen: Annotated[Tensor, "B", "F"]
    refined: Annotated[Tensor, "B", "N"]
    trend: Trend | None = None

    @cached_property
    def sigma(self) -> Tensor:
        return self.level[0]

    @cached_property
    def next_sigma(self) -> Tensor:
        return self.level[1]

    @cached_property
    def stride(self) -> Tensor:
        return self.level[2]

    @cached_property
    def timestep(self) -> Tensor:
        return self.level[3]

    @cached_property
    def mask(self) -> Mask:
        return Mask(self.computed, self.frozen)

    def preview(self) -> Tensor:
        """[B, N, W]: the clean-image estimate of the step that has just been made."""
        return self.x - self.next_sigma * self.velocity


Tensors = dict[str, tuple[tuple[str | int, ...], torch.dtype]]


def _tensors(kind: type) -> Tensors:
    hints = get_type_hints(kind, include_extras=True).items()
    return {
        name: (hint.__metadata__, torch.int64 if name in ("index", "computed", "frozen") else torch.float32)
        for name, hint in hints
        if hasattr(hint, "__metadata__")
    }


STATE: Tensors = _tensors(State)
"""The dimensions and dtype of each tensor of a `State`."""
TREND: Tensors = _tensors(Trend)
"""The dimensions and dtype of each tensor of a `Trend`."""
