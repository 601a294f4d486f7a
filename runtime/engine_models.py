"""The pair as the sampler sees it: a workspace's bound calls, and guidance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import BoundCall
from hybridstitch.method.guidance import doubled, guide, write_doubled
from hybridstitch.method.masks import Mask
from hybridstitch.method.tokens import gather

from .health import peaks
from .workspace import Workspace

Around = Callable[[str], AbstractContextManager[object]]


class EngineModels:
    """`hybridstitch.method.steps.Models` on a workspace, for one batch of prompts.

    Args:
        workspace: with the prompts' text in it.
        around: a context manager entered for each engine call, with the engine's name (timing).
    """

    def __init__(self, workspace: Workspace, around: Around = nullcontext) -> None:
        self._workspace, self._around = workspace, around
        for model in ("large", "small"):
            workspace.sides[f"{model}.peaks"].fill_(1)

    def large(self, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        self._fill("large", "large", x, timestep)
        self._run(self._workspace.large, "large")
        self._guide("large", "large", out)

    def small(self, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        self._fill("small", "small", x, timestep)
        self._run(self._workspace.small, "small")
        self._guide("small", "small", out)

    def freeze(self, mask: Mask) -> None:
        workspace = self._workspace
        rows = workspace.shape.rows
        frozen = doubled(mask.frozen, rows)[:, None, :, None]
        for name, fresh in workspace.fresh.items():
            space = workspace.frozen[f"frozen_{name}"]
            torch.gather(fresh, 2, frozen.expand(space.shape), out=space)
        computed = doubled(mask.computed, rows)[:, :, None]
        position = workspace.sides["masked.position"]
        torch.gather(workspace.sides["large.position"], 1, computed.expand(position.shape), out=position)

    def hybrid(self, x: Tensor, timestep: Tensor, mask: Mask, hard: Tensor, sketch: Tensor) -> None:
        masked = self._workspace.masked
        if masked is None:
            self.small(x, timestep, sketch)
            return
        self._fill("masked", "large", gather(x, mask.computed), timestep)
        self._fill("small", "small", x, timestep)
        self._run(masked, "large")
        self._run(self._workspace.small, "small")
        self._guide("masked", "large", hard)
        self._guide("small", "small", sketch)

    def _fill(self, call: str, model: str, x: Tensor, timestep: Tensor) -> None:
        """x [B, M, W] and the timestep into what a call reads."""
        write_doubled(x, self._workspace.sides[f"{call}.tokens"])
        self._workspace.sides[f"{model}.timestep"].copy_(timestep)

    def _run(self, call: BoundCall, model: str) -> None:
        with self._around(model):
            call.run()

    def _guide(self, call: str, model: str, out: Tensor) -> None:
        """A call's velocity, guided, to out [B, M, W]; its peaks are noted."""
        velocity, state = self._workspace.sides[f"{call}.velocity"], self._workspace.state
        self._workspace.sides[f"{model}.peaks"].index_copy_(0, state.index, peaks(velocity)[None])
        guide(velocity, state.guidance, out)
