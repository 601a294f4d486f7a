"""Every tensor that a batch of one shape touches, and the engine calls that are bound to them, made once.

The specification is one list that `inspect` adds up and a run allocates: the prediction cannot drift from the run. What
does not depend on the number of masked tokens is there once for each size and batch, whatever ratios are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
from .kept import BASE, KeptPieces, Key

Sessions = Mapping[str, Session]
MOST_STEPS = int(SETTINGS["steps"].most)


@dataclass(frozen=True)
class Lengths:
    """What decides the lengths of all that does not depend on a mask.

    images: of the batch. rows: of the engines' batch, twice as many when guided.
    """

    size: Size
    images: int
    rows: int


@dataclass(frozen=True)
class Shape(Lengths):
    """What decides every length of a run.

    masked: M, the tokens that the large model computes in a hybrid step; None: there is no hybrid step, and so no keys
    and values to keep.
    """

    masked: int | None

    @property
    def lengths(self) -> Lengths:
        return Lengths(self.size, self.images, self.rows)


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
    """Every tensor of a workspace by its name.

    state: the sampler's. sides: what else the engines read and write. fresh: keys and values of a full step.
    masked_state, masked_sides, frozen: what depends on M, of the state, of the sides, and the keys and values of the
    tokens that are not computed.
    """

    state: Mapping[str, Space]
    sides: Mapping[str, Space]
    fresh: Mapping[str, Space]
    masked_state: Mapping[str, Space]
    masked_sides: Mapping[str, Space]
    frozen: Mapping[str, Space]

    @property
    def base_bytes(self) -> int:
        """Of all but the keys and values that does not depend on M."""
        return _bytes(self.state, self.sides)

    @property
    def fresh_bytes(self) -> int:
        return _bytes(self.fresh)

    @property
    def masked_bytes(self) -> int:
        """Of all that depends on M."""
        return _bytes(self.masked_state, self.masked_sides, self.frozen)

    @property
    def keys_values(self) -> int:
        """Bytes of the keys and values."""
        return _bytes(self.fresh, self.frozen)

    @property
    def others(self) -> int:
        """Bytes of all else."""
        return self.base_bytes + _bytes(self.masked_state, self.masked_sides)


def _bytes(*spaces: Mapping[str, Space]) -> int:
    return sum(space.bytes for each in spaces for space in each.values())


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
    of_mask = [name for name, (dims, _) in STATE.items() if {"M", "F"} & set(dims)]
    return Specification(
        state={name: space for name, space in state.items() if name not in of_mask},
        sides={name: space for name, space in sides.items() if not name.startswith("masked.")},
        fresh=dict.fromkeys(names, fresh),
        masked_state={name: state[name] for name in of_mask},
        masked_sides={name: space for name, space in sides.items() if name.startswith("masked.")},
        frozen={f"frozen_{name}": frozen for name in names},
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


class _Base:
    """What does not depend on a mask: the sampler's state, the small model's call and the decoder's."""

    def __init__(self, sessions: Sessions, positions: Mapping[str, Tensor], spec: Specification, images: int) -> None:
        self.device = sessions["large"].engine.device
        self.state, self.sides = _allocate(spec.state, self.device), _allocate(spec.sides, self.device)
        for model, table in positions.items():
            self.sides[f"{model}.position"].copy_(table)
        self.small = bind(sessions["small"], "small", "small", self.sides, {}, {}, images)
        self.decoder: BoundCall | None = None
        if "vae_decoder" in sessions:
            self.decoder = sessions["vae_decoder"].bind(
                {"latents": self.sides["latents"]}, {"image": self.sides["image"]}
            )


class _Full:
    """The large model's call on all tokens, and the keys and values that it leaves, where somebody needs them."""

    def __init__(self, sessions: Sessions, base: _Base, spec: Specification, shape: Shape) -> None:
        self.fresh = _allocate(spec.fresh, base.device)
        no_keys = _no_keys(sessions["large"].engine.manifest, shape.rows, base.device)
        self.call = bind(sessions["large"], "large", "large", base.sides, no_keys, self.fresh, shape.images)


class _Masked:
    """What depends on M: the large model's call on the masked tokens, and the keys and values of the others."""

    def __init__(self, sessions: Sessions, base: _Base, spec: Specification, shape: Shape) -> None:
        self.state, self.sides = _allocate(spec.masked_state, base.device), _allocate(spec.masked_sides, base.device)
        self.frozen = _allocate(spec.frozen, base.device)
        sides = {**base.sides, **self.sides}
        self.call: Call | None = None
        if shape.masked:
            self.call = bind(sessions["large"], "masked", "large", sides, self.frozen, {}, shape.images)


class Workspace:
    """The tensors of a specification, and the calls of each kind of step bound to them.

    state: the sampler's. fresh, frozen: keys and values, of a full step and of its frozen tokens. sides: what else the
    engines read and write. large, masked, small, decoder: the calls; masked is None where no token is computed by
    itself, decoder where pictures are not decoded.
    """

    def __init__(
        self,
        sessions: Sessions,
        positions: Callable[[], Mapping[str, Tensor]],
        shape: Shape,
        kept: KeptPieces | None = None,
    ) -> None:
        """Allocate and bind what is not kept already.

        Args:
            sessions: of the large and the small transformer, and of the decoder where pictures are decoded.
            positions: gives [N, D] of each transformer, cropped to the size, where they are not kept.

        Raises:
            HybridStitchError: lengths that no profile holds, or not enough memory.
            torch.OutOfMemoryError, MemoryError: likewise.
        """
        kept = KeptPieces(0) if kept is None else kept
        spec = specification({name: session.engine.manifest for name, session in sessions.items()}, shape)
        key, keeps = shape.lengths, None if shape.masked is None else 1
        kept.begin()
        base = kept.get(Key(key, BASE), spec.base_bytes, lambda: _Base(sessions, positions(), spec, shape.images))
        full = kept.get(Key(key, "full", keeps), spec.fresh_bytes, lambda: _Full(sessions, base, spec, shape))
        masked = kept.get(
            Key(key, "masked", shape.masked), spec.masked_bytes, lambda: _Masked(sessions, base, spec, shape)
        )
        self.shape, self._session, self._device = shape, sessions["large"], base.device
        self.state = State(**base.state, **masked.state)
        self.sides = {**base.sides, **masked.sides}
        self.fresh, self.frozen = full.fresh, masked.frozen
        self.large, self.masked, self.small, self.decoder = full.call, masked.call, base.small, base.decoder

    def masked_alone(self) -> Call | None:
        """The masked call without the frozen keys and values, so that the masked tokens see only each other and the
        text: to measure what these are worth.

        Raises:
            HybridStitchError: the engine has no profile for it; ONNX Runtime's needs none.
        """
        if self.masked is None:
            return None
        no_keys = _no_keys(self._session.engine.manifest, self.shape.rows, self._device)
        return bind(self._session, "masked", "large", self.sides, no_keys, {}, self.shape.images)

    def note_steps(self, health: Health, steps: int) -> None:
        """Note what the transformers gave in the first steps of a run."""
        models = ("large", "small")
        peaks = torch.stack([self.sides[f"{model}.peaks"][:steps] for model in models], dim=1)
        where = [f"{model}, step {step + 1}," for step in range(steps) for model in models]
        health.note(where, peaks.flatten(0, 1))


def bind(
    session: Session,
    call: str,
    model: str,
    sides: Mapping[str, Tensor],
    frozen: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    images: int,
) -> Call:
    """Bind a transformer's call ("large", "masked" or "small") to its tensors among the sides.

    Args:
        frozen: the keys and values that it reads. fresh: those that it writes.
    """
    tokens, velocity = sides[f"{call}.tokens"], sides[f"{call}.velocity"]
    inputs = {
        "tokens": tokens,
        "position": sides[f"{call}.position"],
        "text": sides["text"],
        "pooled": sides["pooled"],
        "timestep": sides[f"{model}.timestep"],
        **frozen,
    }
    return Call(
        model=model,
        bound=session.bind(inputs, {"velocity": velocity, **fresh}),
        tokens=tokens.unflatten(0, (-1, images)),
        timestep=inputs["timestep"],
        velocity=velocity,
        velocities=velocity.split(images),
        peaks=sides[f"{model}.peaks"],
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
