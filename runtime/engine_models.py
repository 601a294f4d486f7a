"""The pair as the sampler sees it: a workspace's bound calls, and guidance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from hybridstitch.method.guidance import guide
from hybridstitch.method.masks import Mask
from hybridstitch.method.tokens import gather, pick_rows, row_index

from .health import peaks
from .specification import MOVED
from .workspace import Call, Workspace

Around = Callable[[str], AbstractContextManager[object]]


class EngineModels:
    """`hybridstitch.method.steps.Models` on a workspace, for one batch of prompts.

    Args:
        workspace: with the prompts' text in it.
        around: a context manager entered for each engine call, with the engine's name (timing).
    """

    def __init__(self, workspace: Workspace, around: Around = nullcontext) -> None:
        self._workspace, self._around, self._masked = workspace, around, workspace.masked
        for call in (workspace.large, workspace.small):
            call.peaks.fill_(1)

    def large(self, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        call = self._workspace.large
        self._fill(call, x, timestep)
        self._run(call)
        self._guide(call, out)

    def small(self, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        call = self._workspace.small
        self._fill(call, x, timestep)
        self._run(call)
        self._guide(call, out)

    def masked(self, x: Tensor, timestep: Tensor, mask: Mask, masked_velocity: Tensor) -> None:
        call = self._masked
        if call is not None:  # else there is no token to compute
            self._fill(call, gather(x, mask.computed), timestep)
            self._run(call)
            self._guide(call, masked_velocity)

    def hybrid(self, x: Tensor, timestep: Tensor, mask: Mask, masked_velocity: Tensor, sketch: Tensor) -> None:
        masked, small = self._masked, self._workspace.small
        if masked is None:
            self.small(x, timestep, sketch)
            return
        self._fill(masked, gather(x, mask.computed), timestep)
        self._fill(small, x, timestep)
        self._run(masked)
        self._run(small)
        self._guide(masked, masked_velocity)
        self._guide(small, sketch)

    def keep(self) -> None:
        """The first tokens go where the frozen ones were, which nobody reads now, the rest beside them."""
        for fresh, frozen, rest in self._kept():
            first = frozen.shape[-2]
            frozen.copy_(fresh[..., :first, :])
            rest.copy_(fresh[..., first:, :])

    def freeze(self, mask: Mask, moved: Tensor | None = None) -> None:
        workspace = self._workspace
        index = None
        for name, fresh in workspace.fresh.items():
            index = row_index(mask.frozen, fresh) if index is None else index  # all are alike
            frozen = workspace.frozen[f"frozen_{name}"]
            if moved is not None and workspace.earlier:
                whole = workspace.earlier[MOVED]
                torch.cat((frozen, workspace.earlier[name]), dim=-2, out=whole)
                whole.sub_(fresh)
                fresh = torch.addcmul(fresh, whole, -moved, out=whole)
            pick_rows(fresh, index, frozen)
        position = workspace.io["large.position"]
        pick_rows(position, row_index(mask.computed, position), workspace.io["masked.position"])

    def move(self, mask: Mask, ratio: Tensor) -> None:
        """What they have moved holds their slope: those of the full step before are not needed any more."""
        index = None
        for fresh, frozen, _ in self._kept():
            index = row_index(mask.frozen, fresh) if index is None else index
            base = self._workspace.earlier[MOVED].flatten()[: frozen.numel()].view(frozen.shape)
            pick_rows(fresh, index, base)
            torch.addcmul(base, frozen.sub_(base), ratio, out=frozen)

    def _kept(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of each keys or values that move on: fresh, frozen, and what of the earlier ones is kept beside these. None
        where no call reads them."""
        workspace = self._workspace
        for name, rest in workspace.earlier.items():
            if name != MOVED:
                yield workspace.fresh[name], workspace.frozen[f"frozen_{name}"], rest

    def _fill(self, call: Call, x: Tensor, timestep: Tensor) -> None:
        """x [B, M, W] and the timestep into what a call reads."""
        call.tokens.copy_(x)
        call.timestep.copy_(timestep)

    def _run(self, call: Call) -> None:
        with self._around(call.model):
            call.bound.run()

    def _guide(self, call: Call, out: Tensor) -> None:
        """A call's velocity, guided, to out [B, M, W]; its peaks are noted."""
        state = self._workspace.state
        call.peaks.index_copy_(0, state.index, peaks(call.velocity)[None])
        guide(call.velocities, state.guidance, out)
