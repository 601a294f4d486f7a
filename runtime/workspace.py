"""Every tensor that a batch of one shape touches, and the engine calls that are bound to them, made once.

The specification is one list that `inspect` adds up and a run allocates: the prediction cannot drift from the run. What
does not depend on the number of masked tokens is there once for each size and batch, whatever ratios are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import BoundCall, Session
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.program import Program, extrapolates, remembers
from hybridstitch.method.settings import SETTINGS
from hybridstitch.method.size import Size
from hybridstitch.method.state import STATE, TREND, State, Tensors, Trend

from .health import Health
from .kept import BASE, KeptPieces, Key

Sessions = Mapping[str, Session]
MOST_STEPS = int(SETTINGS["steps"].most)
MOVED = "moved"
"""The name of the space for keys or values while they are moved."""


@dataclass(frozen=True)
class BatchShape:
    """What decides the lengths of all that does not depend on a mask.

    images: of the batch. rows: of the engines' batch, twice as many when guided.
    """

    size: Size
    images: int
    rows: int


@dataclass(frozen=True)
class Shape(BatchShape):
    """What decides every length of a run.

    masked: M, the tokens that the large model computes in a hybrid step; None: there is no hybrid step, and so no keys
    and values to keep. remembers, extrapolates: what the program does, see there.
    """

    masked: int | None
    remembers: bool = False
    extrapolates: bool = False

    @classmethod
    def of(cls, size: Size, images: int, rows: int, masked: int | None, program: Program) -> Shape:
        return cls(size, images, rows, masked, remembers(program), extrapolates(program))

    @property
    def lengths(self) -> BatchShape:
        return BatchShape(self.size, self.images, self.rows)


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

    state: the sampler's. io: what else the engines read and write. fresh: keys and values of a full step.
    masked_state, masked_io, frozen: what depends on M, of the state, of io, and the keys and values of the
    tokens that are not computed. trend: what is remembered of full steps, where held tokens move on or are corrected.
    earlier: what moving keys and values on takes beside them.
    """

    state: Mapping[str, Space]
    io: Mapping[str, Space]
    fresh: Mapping[str, Space]
    masked_state: Mapping[str, Space]
    masked_io: Mapping[str, Space]
    frozen: Mapping[str, Space]
    trend: Mapping[str, Space]
    earlier: Mapping[str, Space]

    @property
    def base_bytes(self) -> int:
        """Of all but the keys and values that does not depend on M."""
        return _bytes(self.state, self.io)

    @property
    def fresh_bytes(self) -> int:
        return _bytes(self.fresh)

    @property
    def masked_bytes(self) -> int:
        """Of all that depends on M."""
        return _bytes(self.masked_state, self.masked_io, self.frozen)

    @property
    def trend_bytes(self) -> int:
        return _bytes(self.trend)

    @property
    def earlier_bytes(self) -> int:
        return _bytes(self.earlier)

    @property
    def keys_values(self) -> int:
        """Bytes of the keys and values."""
        return _bytes(self.fresh, self.frozen, self.earlier)

    @property
    def others(self) -> int:
        """Bytes of all else."""
        return self.base_bytes + _bytes(self.masked_state, self.masked_io, self.trend)


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
    state = _spaces(STATE, lengths)
    io = {
        "text": Space((rows, geometry.text_tokens, geometry.text_width), dtype["large"]),
        "pooled": Space((rows, geometry.pooled_width), dtype["large"]),
    }
    for call, model, count in (("large", "large", tokens), ("masked", "large", masked), ("small", "small", tokens)):
        io[f"{call}.tokens"] = Space((rows, count, geometry.token_width), dtype[model])
        io[f"{call}.velocity"] = Space((rows, count, geometry.token_width), dtype[model])
        io[f"{call}.position"] = Space((rows, count, _geometry(manifests[model]).width), dtype[model])
    for model in ("large", "small"):
        io[f"{model}.timestep"] = Space((rows,), torch.float32)
        io[f"{model}.peaks"] = Space((MOST_STEPS, rows), torch.float32)
    if "vae_decoder" in manifests:
        latent = shape.size.height // geometry.vae_factor, shape.size.width // geometry.vae_factor
        io["latents"] = Space((shape.images, geometry.latent_channels, *latent), dtype["vae_decoder"])
        io["image"] = Space((shape.images, 3, shape.size.height, shape.size.width), dtype["vae_decoder"])
    kept = 0 if shape.masked is None else geometry.attentions
    names = [f"{kind}.{index}" for index in range(kept) for kind in ("key", "value")]
    head = rows, geometry.heads
    fresh = Space((*head, tokens, geometry.head_dim), dtype["large"])
    frozen = Space((*head, tokens - masked, geometry.head_dim), dtype["large"])
    of_mask = [name for name, (dims, _) in STATE.items() if {"M", "F"} & set(dims)]
    return Specification(
        state={name: space for name, space in state.items() if name not in of_mask},
        io={name: space for name, space in io.items() if not name.startswith("masked.")},
        fresh=dict.fromkeys(names, fresh),
        masked_state={name: state[name] for name in of_mask},
        masked_io={name: space for name, space in io.items() if name.startswith("masked.")},
        frozen={f"frozen_{name}": frozen for name in names},
        trend=_spaces(TREND, lengths) if shape.remembers else {},
        earlier=_earlier(names, fresh, masked) if shape.extrapolates and 0 < masked < tokens else {},
    )


def _spaces(tensors: Tensors, lengths: Mapping[str, int]) -> dict[str, Space]:
    return {
        name: Space(tuple(lengths[dim] if isinstance(dim, str) else dim for dim in dims), kind)
        for name, (dims, kind) in tensors.items()
    }


def _earlier(names: Sequence[str], fresh: Space, masked: int) -> dict[str, Space]:
    """For the keys and values of the full step before the last one: beside the space of the frozen tokens, which nobody
    reads during a full step, that of M tokens, so that both are together as much as those of all tokens. And space for
    one of them while it is moved."""
    *head, _, width = fresh.shape
    rest = Space((*head, masked, width), fresh.dtype)
    return {**dict.fromkeys(names, rest), MOVED: fresh}


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
        self.state, self.io = _allocate(spec.state, self.device), _allocate(spec.io, self.device)
        for model, table in positions.items():
            self.io[f"{model}.position"].copy_(table)
        self.small = bind(sessions["small"], "small", "small", self.io, {}, {}, images)
        self.decoder: BoundCall | None = None
        if "vae_decoder" in sessions:
            self.decoder = sessions["vae_decoder"].bind({"latents": self.io["latents"]}, {"image": self.io["image"]})


class _Full:
    """The large model's call on all tokens, and the keys and values that it leaves, where somebody needs them."""

    def __init__(self, sessions: Sessions, base: _Base, spec: Specification, shape: Shape) -> None:
        self.fresh = _allocate(spec.fresh, base.device)
        no_keys = _no_keys(sessions["large"].engine.manifest, shape.rows, base.device)
        self.call = bind(sessions["large"], "large", "large", base.io, no_keys, self.fresh, shape.images)


class _Masked:
    """What depends on M: the large model's call on the masked tokens, and the keys and values of the others."""

    def __init__(self, sessions: Sessions, base: _Base, spec: Specification, shape: Shape) -> None:
        self.state, self.io = _allocate(spec.masked_state, base.device), _allocate(spec.masked_io, base.device)
        self.frozen = _allocate(spec.frozen, base.device)
        io = {**base.io, **self.io}
        self.call: Call | None = None
        if shape.masked:
            self.call = bind(sessions["large"], "masked", "large", io, self.frozen, {}, shape.images)


class _Trend:
    """What is remembered of full steps."""

    def __init__(self, spec: Specification, device: torch.device) -> None:
        self.trend = Trend(**_allocate(spec.trend, device))


class _Earlier:
    """What moving keys and values on takes."""

    def __init__(self, spec: Specification, device: torch.device) -> None:
        self.earlier = _allocate(spec.earlier, device)


class Workspace:
    """The tensors of a specification, and the calls of each kind of step bound to them.

    state: the sampler's. fresh, frozen: keys and values, of a full step and of its frozen tokens. earlier: what moving
    these on takes; empty where they stay. io: what else the engines read and write. large, masked, small, decoder:
    the calls; masked is None where no token is computed by itself, decoder where pictures are not decoded.
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
        trend, earlier = None, {}
        if spec.trend:
            trend = kept.get(Key(key, "trend"), spec.trend_bytes, lambda: _Trend(spec, base.device)).trend
        if spec.earlier:
            place = Key(key, "earlier", shape.masked)
            earlier = kept.get(place, spec.earlier_bytes, lambda: _Earlier(spec, base.device)).earlier
        self.shape, self._session, self._device = shape, sessions["large"], base.device
        self.state = State(**base.state, **masked.state, trend=trend)
        self.io = {**base.io, **masked.io}
        self.fresh, self.frozen, self.earlier = full.fresh, masked.frozen, earlier
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
        return bind(self._session, "masked", "large", self.io, no_keys, {}, self.shape.images)

    def note_steps(self, health: Health, steps: int) -> None:
        """Note what the transformers gave in the first steps of a run."""
        models = ("large", "small")
        peaks = torch.stack([self.io[f"{model}.peaks"][:steps] for model in models], dim=1)
        where = [f"{model}, step {step + 1}," for step in range(steps) for model in models]
        health.note(where, peaks.flatten(0, 1))


def bind(
    session: Session,
    call: str,
    model: str,
    io: Mapping[str, Tensor],
    frozen: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    images: int,
) -> Call:
    """Bind a transformer's call ("large", "masked" or "small") to its tensors among the inputs and outputs.

    Args:
        frozen: the keys and values that it reads. fresh: those that it writes.
    """
    tokens, velocity = io[f"{call}.tokens"], io[f"{call}.velocity"]
    inputs = {
        "tokens": tokens,
        "position": io[f"{call}.position"],
        "text": io["text"],
        "pooled": io["pooled"],
        "timestep": io[f"{model}.timestep"],
        **frozen,
    }
    return Call(
        model=model,
        bound=session.bind(inputs, {"velocity": velocity, **fresh}),
        tokens=tokens.unflatten(0, (-1, images)),
        timestep=inputs["timestep"],
        velocity=velocity,
        velocities=velocity.split(images),
        peaks=io[f"{model}.peaks"],
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
