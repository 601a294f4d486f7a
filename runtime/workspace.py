"""Every tensor that a batch of one shape touches, and the engine calls that are bound to them, made once.

The specification is one list that `inspect` adds up and a run allocates: the prediction cannot drift from the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import BoundCall, Session
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.settings import SETTINGS
from hybridstitch.method.size import Size
from hybridstitch.method.state import STATE, State

from .health import Health

MOST_STEPS = int(SETTINGS["steps"].most)


@dataclass(frozen=True)
class Shape:
    """What decides every length of a run.

    images: of the batch. rows: of the engines' batch, twice as many when guided. masked: M, the tokens that the large
    model computes in a hybrid step; None: there is no hybrid step, and so no keys and values to keep.
    """

    size: Size
    images: int
    rows: int
    masked: int | None


@dataclass(frozen=True)
class Space:
    """A tensor of a workspace."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self, device: torch.device) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype, device=device)


@dataclass(frozen=True)
class Specification:
    """Every tensor of a workspace by its name: the sampler's state, the large model's keys and values, and what else
    the engines read and write."""

    state: Mapping[str, Space]
    fresh: Mapping[str, Space]
    frozen: Mapping[str, Space]
    sides: Mapping[str, Space]

    @property
    def keys_values(self) -> int:
        """Bytes of the keys and values."""
        return sum(space.bytes for space in (*self.fresh.values(), *self.frozen.values()))

    @property
    def others(self) -> int:
        """Bytes of all else."""
        return sum(space.bytes for space in (*self.state.values(), *self.sides.values()))


def specification(manifests: Mapping[str, Manifest], shape: Shape) -> Specification:
    """What a batch of one shape needs.

    Args:
        manifests: of the large and the small transformer, and of the decoder where pictures are decoded.

    Raises:
        HybridStitchError: a size that the model cannot draw.
    """
    geometry, rows = _geometry(manifests["large"]), shape.rows
    dtype = {name: getattr(torch, manifest.dtype) for name, manifest in manifests.items()}
    tokens, masked = geometry.tokens(shape.size), shape.masked or 0
    lengths = {"B": shape.images, "N": tokens, "M": masked, "F": tokens - masked, "W": geometry.token_width}
    state = {
        name: Space(tuple(lengths[dim] if isinstance(dim, str) else dim for dim in dims), kind)
        for name, (dims, kind) in STATE.items()
    }
    sides = {
        "text": Space((rows, geometry.text_tokens, geometry.text_width), dtype["large"]),
        "pooled": Space((rows, geometry.pooled_width), dtype["large"]),
    }
    for call, model, count in (("large", "large", tokens), ("masked", "large", masked), ("small", "small", tokens)):
        sides[f"{call}.tokens"] = Space((rows, count, geometry.token_width), dtype[model])
        sides[f"{call}.velocity"] = Space((rows, count, geometry.token_width), dtype[model])
        sides[f"{call}.position"] = Space((rows, count, _geometry(manifests[model]).width), dtype[model])
    for model in ("large", "small"):
        sides[f"{model}.timestep"] = Space((rows,), torch.float32)
        sides[f"{model}.peaks"] = Space((MOST_STEPS, rows), torch.float32)
    if "vae_decoder" in manifests:
        latent = shape.size.height // geometry.vae_factor, shape.size.width // geometry.vae_factor
        sides["latents"] = Space((shape.images, geometry.latent_channels, *latent), dtype["vae_decoder"])
        sides["image"] = Space((shape.images, 3, shape.size.height, shape.size.width), dtype["vae_decoder"])
    kept = 0 if shape.masked is None else geometry.attentions
    names = [f"{kind}.{index}" for index in range(kept) for kind in ("key", "value")]
    head = rows, geometry.heads
    fresh = Space((*head, tokens, geometry.head_dim), dtype["large"])
    frozen = Space((*head, tokens - masked, geometry.head_dim), dtype["large"])
    return Specification(
        state=state,
        fresh=dict.fromkeys(names, fresh),
        frozen={f"frozen_{name}": frozen for name in names},
        sides=sides,
    )


@dataclass(frozen=True)
class Call:
    """An engine call of one kind of step, and the tensors at its ends.

    model: "large" or "small". tokens: [halves, B, M, W], what is read, seen as both halves of a guided batch.
    timestep: [R], the model's. velocity: [R, M, W], what is written; velocities: its halves [B, M, W]. peaks:
    [steps, R], the model's.
    """

    model: str
    bound: BoundCall
    tokens: Tensor
    timestep: Tensor
    velocity: Tensor
    velocities: tuple[Tensor, ...]
    peaks: Tensor


class Workspace:
    """The tensors of a specification, and the calls of each kind of step bound to them.

    state: the sampler's. fresh, frozen: keys and values, of a full step and of its frozen tokens. sides: what else the
    engines read and write. large, masked, small, decoder: the calls; masked is None where no token is computed by
    itself, decoder where pictures are not decoded.
    """

    def __init__(self, sessions: Mapping[str, Session], positions: Mapping[str, Tensor], shape: Shape) -> None:
        """Allocate and bind.

        Args:
            sessions: of the large and the small transformer, and of the decoder where pictures are decoded.
            positions: [N, D] of each transformer, cropped to the size.

        Raises:
            HybridStitchError: lengths that no profile holds, or not enough memory.
            torch.OutOfMemoryError, MemoryError: likewise.
        """
        manifests = {name: session.engine.manifest for name, session in sessions.items()}
        spec, device = specification(manifests, shape), sessions["large"].engine.device
        self.shape = shape
        self.state = State(**_allocate(spec.state, device))
        self.fresh, self.frozen = _allocate(spec.fresh, device), _allocate(spec.frozen, device)
        self.sides = _allocate(spec.sides, device)
        for model, table in positions.items():
            self.sides[f"{model}.position"].copy_(table)
        self._session, self._no_keys = sessions["large"], _no_keys(manifests["large"], shape.rows, device)
        self.large = self._bind(sessions["large"], "large", "large", self._no_keys, self.fresh)
        self.masked = self._bind(sessions["large"], "masked", "large", self.frozen, {}) if shape.masked else None
        self.small = self._bind(sessions["small"], "small", "small", {}, {})
        self.decoder: BoundCall | None = None
        if "vae_decoder" in sessions:
            latents, image = self.sides["latents"], self.sides["image"]
            self.decoder = sessions["vae_decoder"].bind({"latents": latents}, {"image": image})

    def masked_alone(self) -> Call | None:
        """The masked call without the frozen keys and values, so that the masked tokens see only each other and the
        text: to measure what these are worth.

        Raises:
            HybridStitchError: the engine has no profile for it; ONNX Runtime's needs none.
        """
        return self._bind(self._session, "masked", "large", self._no_keys, {}) if self.masked else None

    def note_steps(self, health: Health, steps: int) -> None:
        """Note what the transformers gave in the first steps of a run."""
        models = ("large", "small")
        peaks = torch.stack([self.sides[f"{model}.peaks"][:steps] for model in models], dim=1)
        where = [f"{model}, step {step + 1}," for step in range(steps) for model in models]
        health.note(where, peaks.flatten(0, 1))

    def _bind(
        self, session: Session, call: str, model: str, frozen: Mapping[str, Tensor], kept: Mapping[str, Tensor]
    ) -> Call:
        tokens, velocity = self.sides[f"{call}.tokens"], self.sides[f"{call}.velocity"]
        inputs = {
            "tokens": tokens,
            "position": self.sides[f"{call}.position"],
            "text": self.sides["text"],
            "pooled": self.sides["pooled"],
            "timestep": self.sides[f"{model}.timestep"],
            **frozen,
        }
        return Call(
            model=model,
            bound=session.bind(inputs, {"velocity": velocity, **kept}),
            tokens=tokens.unflatten(0, (-1, self.shape.images)),
            timestep=inputs["timestep"],
            velocity=velocity,
            velocities=velocity.split(self.shape.images),
            peaks=self.sides[f"{model}.peaks"],
        )


def _geometry(manifest: Manifest) -> Geometry:
    assert manifest.geometry is not None  # every transformer has one
    return manifest.geometry


def _allocate(spaces: Mapping[str, Space], device: torch.device) -> dict[str, Tensor]:
    return {name: space.empty(device) for name, space in spaces.items()}


def _no_keys(large: Manifest, rows: int, device: torch.device) -> dict[str, Tensor]:
    """What a full call takes: no frozen tokens."""
    geometry = _geometry(large)
    space = Space((rows, geometry.heads, 0, geometry.head_dim), getattr(torch, large.dtype))
    return {name: space.empty(device) for name in large.inputs if name.startswith("frozen_")}
