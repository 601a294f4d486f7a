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
        self._run(self._workspace.large, "large", "large", x, timestep, out)

    def small(self, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        self._run(self._workspace.small, "small", "small", x, timestep, out)

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
        if self._workspace.masked is not None:
            self._run(self._workspace.masked, "masked", "large", gather(x, mask.computed), timestep, hard)
        self.small(x, timestep, sketch)

    def _run(self, bound: BoundCall, call: str, model: str, x: Tensor, timestep: Tensor, out: Tensor) -> None:
        """One engine call on x [B, M, W]; its guided velocity goes to out [B, M, W]."""
        sides, state = self._workspace.sides, self._workspace.state
        write_doubled(x, sides[f"{call}.tokens"])
        sides[f"{model}.timestep"].copy_(timestep)
        with self._around(model):
            bound.run()
        velocity = sides[f"{call}.velocity"]
        sides[f"{model}.peaks"].index_copy_(0, state.index, peaks(velocity)[None])
        guide(velocity, state.guidance, out)
