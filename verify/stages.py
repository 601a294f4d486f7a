"""A short run of each stage through the very sampler: the engines against the reference, on the same noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import Engine
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import halves
from hybridstitch.method.masks import Mask, hardest
from hybridstitch.method.parameters import SamplingParameters, Score
from hybridstitch.method.sampler import Sampler
from hybridstitch.method.schedule import Schedule
from hybridstitch.method.size import Size
from hybridstitch.method.tokens import crop_positions
from hybridstitch.runtime.engine_models import EngineModels
from hybridstitch.runtime.health import Health
from hybridstitch.runtime.specification import Shape
from hybridstitch.runtime.workspace import Workspace

from .compare import Bounds, Comparison, compare

SCHEDULES = {
    "large": Schedule(steps=3, large_until=3, hybrid_until=3),
    "hybrid": Schedule(steps=6, large_until=2, hybrid_until=6, refresh_every=2),
    "small": Schedule(steps=3, large_until=0, hybrid_until=0),
}
"""The hybrid run chooses a mask twice: two large steps, two hybrid ones, a refresh, one more hybrid step."""


@dataclass(frozen=True)
class Side:
    """A pair that can run: the engines or the reference. positions: table [S, S, D] by transformer, on
    the CPU."""

    large: Engine
    small: Engine
    positions: dict[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """What both sides are given.

    noise [B, N, p*p*C]; levels [S, 4] by stage, see `noise_levels`; text [B', T, E] and pooled [B', P], negative
    prompts first.
    """

    geometry: Geometry
    size: Size
    noise: Tensor
    levels: dict[str, Tensor]
    text: Tensor
    pooled: Tensor
    guidance: float
    mask_ratio: float
    residual: float | None
    token_bucket: int


@dataclass(frozen=True)
class StageRun:
    """What a run came to: final tokens [B, N, p*p*C], and the masks that it chose, in order."""

    tokens: Tensor
    masks: tuple[Mask, ...]
    seconds: float


@dataclass(frozen=True)
class StageReport:
    """One stage. same_mask: the share of the reference's masked tokens that the engines chose too, None without one."""

    stage: str
    tokens: Comparison
    bounds: Bounds
    same_mask: float | None
    least_same_mask: float
    seconds: float

    @property
    def steps(self) -> int:
        return SCHEDULES[self.stage].steps

    @property
    def failures(self) -> list[str]:
        """One line for each thing that is off."""
        failures = [f"{self.stage} stage, {self.tokens.output}: {self.tokens.problem}"] if self.tokens.problem else []
        if self.same_mask is not None and self.same_mask < self.least_same_mask:
            failures.append(
                f"{self.stage} stage, mask: {self.same_mask:.1%} of its tokens are the reference's, "
                f"at least {self.least_same_mask:.0%}"
            )
        return failures


@torch.inference_mode()
def run_stage(side: Side, stage: str, setting: Setting, *, follow: Sequence[Mask] = ()) -> StageRun:
    """Draw with one stage's schedule.

    Args:
        follow: masks to go on with, instead of those that this side chooses (and reports). Tokens that are nearly as
            hard as each other may change places by rounding alone; with the same masks the final tokens say what the
            engines compute, and the choice is judged for itself.

    Raises:
        HybridStitchError: an engine gave NaN, infinity or only zeros, or does not take these lengths.
    """
    parameters, geometry = _parameters(stage, setting), setting.geometry
    images, tokens = setting.noise.shape[:2]
    masked = parameters.masked_tokens(tokens, setting.token_bucket)
    grid = geometry.grid(setting.size)
    workspace = Workspace(
        {"large": side.large.session(), "small": side.small.session()},
        lambda: {name: crop_positions(table, *grid).to(setting.noise.device) for name, table in side.positions.items()},
        Shape(setting.size, images, images * halves(setting.guidance), masked),
    )
    state, choose = workspace.state, _Following(follow)
    workspace.io["text"].copy_(setting.text)
    workspace.io["pooled"].copy_(setting.pooled)
    state.x.copy_(setting.noise)
    state.guidance.fill_(parameters.guidance)
    state.exponent.fill_(parameters.residual or 0.0)
    start = time.perf_counter()
    for _ in Sampler(EngineModels(workspace), state, setting.levels[stage], parameters, choose=choose):
        pass
    health = Health()
    workspace.note_steps(health, parameters.schedule.steps)
    health.check(images)  # waits for the device
    return StageRun(state.x, tuple(choose.chosen), time.perf_counter() - start)


def compare_stage(stage: str, ours: StageRun, theirs: StageRun, bounds: Bounds, least_same_mask: float) -> StageReport:
    """The engines' run, which followed the reference's masks, against the reference's."""
    same = None
    if theirs.masks:
        pairs = zip(ours.masks, theirs.masks, strict=True)
        same = min(_agreement(mine.computed, reference.computed) for mine, reference in pairs)
    comparison = compare("tokens", ours.tokens, theirs.tokens, bounds)
    return StageReport(stage, comparison, bounds, same, least_same_mask, ours.seconds)


def failed_stage(stage: str, problem: str, bounds: Bounds, least_same_mask: float) -> StageReport:
    """A stage that did not come to its end, on either side."""
    return StageReport(stage, Comparison("tokens", problem), bounds, None, least_same_mask, 0.0)


class _Following:
    """Chooses the masks to follow instead of the hardest tokens, and notes what it would have chosen."""

    def __init__(self, follow: Sequence[Mask]) -> None:
        self.follow = follow
        self.chosen: list[Mask] = []

    def __call__(self, scores: Tensor, count: int) -> Mask:
        self.chosen.append(hardest(scores, count))
        return self.follow[len(self.chosen) - 1] if len(self.follow) >= len(self.chosen) else self.chosen[-1]


def _parameters(stage: str, setting: Setting) -> SamplingParameters:
    return SamplingParameters(
        method="small" if stage == "small" else "large" if stage == "large" else "hybrid",
        schedule=SCHEDULES[stage],
        guidance=setting.guidance,
        mask_ratio=setting.mask_ratio,
        score=Score.GAP,
        residual=setting.residual if stage == "hybrid" else None,
    )


def _agreement(ours: Tensor, theirs: Tensor) -> float:
    """Of two choices [B, M] of tokens: the share that is in both, in the image where it is smallest. 1 of none."""
    if theirs.shape[1] == 0:
        return 1.0
    shared = (ours[:, :, None] == theirs[:, None, :]).any(dim=1).float().mean(dim=1)
    return float(shared.min())
