"""The pair as the sampler sees it: a workspace's bound calls, and guidance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from hybridstitch.method.guidance import guide
from hybridstitch.method.masks import Mask
from hybridstitch.method.tokens import gather, pick_rows, row_index

from .health import peaks
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

    def masked(self, x: Tensor, timestep: Tensor, mask: Mask, hard: Tensor) -> None:
        call = self._masked
        if call is not None:  # else there is no token to compute
            self._fill(call, gather(x, mask.computed), timestep)
            self._run(call)
            self._guide(call, hard)

    def hybrid(self, x: Tensor, timestep: Tensor, mask: Mask, hard: Tensor, sketch: Tensor) -> None:
        masked, small = self._masked, self._workspace.small
        if masked is None:
            self.small(x, timestep, sketch)
            return
        self._fill(masked, gather(x, mask.computed), timestep)
        self._fill(small, x, timestep)
        self._run(masked)
        self._run(small)
        self._guide(masked, hard)
        self._guide(small, sketch)

    def freeze(self, mask: Mask) -> None:
        workspace = self._workspace
        index = None
        for name, fresh in workspace.fresh.items():
            index = row_index(mask.frozen, fresh) if index is None else index  # all are alike
            pick_rows(fresh, index, workspace.frozen[f"frozen_{name}"])
        position = workspace.sides["large.position"]
        pick_rows(position, row_index(mask.computed, position), workspace.sides["masked.position"])

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
