"""Which tensors a batch of one shape touches: one list that `inspect` adds up and a run allocates.

So the prediction cannot drift from the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.program import Program, extrapolates, remembers
from hybridstitch.method.settings import SETTINGS
from hybridstitch.method.size import Size
from hybridstitch.method.state import STATE, TREND, Tensors

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
    geometry, rows = transformer_geometry(manifests["large"]), shape.rows
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
        io[f"{call}.position"] = Space((rows, count, transformer_geometry(manifests[model]).width), dtype[model])
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


def transformer_geometry(manifest: Manifest) -> Geometry:
    assert manifest.geometry is not None  # every transformer has one
    return manifest.geometry
