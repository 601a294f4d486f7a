"""Every tensor that a batch of one shape touches, and the engine calls that are bound to them, made once.

What does not depend on the number of masked tokens is there once for each size and batch, whatever ratios are asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import BoundCall, Session
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.state import State, Trend

from .health import Health
from .kept import BASE, KeptPieces, Key
from .specification import Shape, Space, Specification, specification, transformer_geometry

Sessions = Mapping[str, Session]


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


def _allocate(spaces: Mapping[str, Space], device: torch.device) -> dict[str, Tensor]:
    return {name: space.empty(device) for name, space in spaces.items()}


def _no_keys(large: Manifest, rows: int, device: torch.device) -> dict[str, Tensor]:
    """What a full call takes: no frozen tokens."""
    geometry = transformer_geometry(large)
    space = Space((rows, geometry.heads, 0, geometry.head_dim), getattr(torch, large.dtype))
    return {name: space.empty(device) for name in large.inputs if name.startswith("frozen_")}
