"""A short run of each stage through the very sampler: the engines against the reference, on the same noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hybridstitch.engines.executors.engine import Engine
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.masks import Mask
from hybridstitch.method.plan import Plan, Score
from hybridstitch.method.sampler import Step, sample
from hybridstitch.method.schedule import Schedule
from hybridstitch.method.tokens import crop_positions
from hybridstitch.runtime.engine_models import EngineModels
from hybridstitch.runtime.health import Health

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

    noise [B, N, p*p*C], sigmas [S+1] and timesteps [S] by stage; text [B', T, E] and pooled [B', P], negative prompts
    first; grid: rows and columns of tokens.
    """

    geometry: Geometry
    grid: tuple[int, int]
    noise: Tensor
    levels: dict[str, tuple[Tensor, Tensor]]
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
        found = [f"{self.stage} stage, {self.tokens.output}: {self.tokens.problem}"] if self.tokens.problem else []
        if self.same_mask is not None and self.same_mask < self.least_same_mask:
            found.append(
                f"{self.stage} stage, mask: {self.same_mask:.1%} of its tokens are the reference's, "
                f"at least {self.least_same_mask:.0%}"
            )
        return found


def run_stage(side: Side, stage: str, setting: Setting, *, follow: Sequence[Mask] = ()) -> StageRun:
    """Draw with one stage's schedule.

    Args:
        follow: masks to go on with, instead of those that this side chooses (and reports). Tokens that are nearly as
            hard as each other may change places by rounding alone; with the same masks the final tokens say what the
            engines compute, and the choice is judged for itself.

    Raises:
        HybridStitchError: an engine gave NaN, infinity or only zeros, or does not take these lengths.
    """
    health, number = Health(), 1

    def step_done(step: Step) -> None:
        nonlocal number
        number = step.index + 2

    models = _Following(
        side.large,
        side.small,
        follow=follow,
        geometry=setting.geometry,
        large_position=crop_positions(side.positions["large"], *setting.grid).to(setting.noise.device),
        small_position=crop_positions(side.positions["small"], *setting.grid).to(setting.noise.device),
        text=setting.text,
        pooled=setting.pooled,
        guidance=setting.guidance,
        keep_keys=SCHEDULES[stage].has_hybrid,
        watch=lambda name, velocity: health.watch(f"{name}, step {number},", velocity),
    )
    start = time.perf_counter()
    tokens, _ = sample(
        models,
        setting.noise,
        *setting.levels[stage],
        _plan(stage, setting),
        token_bucket=setting.token_bucket,
        on_step=step_done,
    )
    health.check()  # waits for the device
    return StageRun(tokens, tuple(models.chosen), time.perf_counter() - start)


def compare_stage(stage: str, ours: StageRun, theirs: StageRun, bounds: Bounds, least_same_mask: float) -> StageReport:
    """The engines' run, which followed the reference's masks, against the reference's."""
    same = None
    if theirs.masks:
        pairs = zip(ours.masks, theirs.masks, strict=True)
        same = min(_agreement(mine.computed, reference.computed) for mine, reference in pairs)
    found = compare("tokens", ours.tokens, theirs.tokens, bounds)
    return StageReport(stage, found, bounds, same, least_same_mask, ours.seconds)


def failed_stage(stage: str, problem: str, bounds: Bounds, least_same_mask: float) -> StageReport:
    """A stage that did not come to its end, on either side."""
    return StageReport(stage, Comparison("tokens", problem), bounds, None, least_same_mask, 0.0)


class _Following(EngineModels):
    """Notes each mask that the sampler chose and puts the one to follow in its place, in the sampler's own tensors."""

    def __init__(self, *engines: Engine, follow: Sequence[Mask], **options: Any) -> None:
        super().__init__(*engines, **options)
        self.follow = follow
        self.chosen: list[Mask] = []

    def freeze(self, mask: Mask) -> None:
        self.chosen.append(Mask(mask.computed.clone(), mask.frozen.clone()))
        if len(self.follow) >= len(self.chosen):
            wanted = self.follow[len(self.chosen) - 1]
            mask.computed.copy_(wanted.computed)
            mask.frozen.copy_(wanted.frozen)
        super().freeze(mask)


def _plan(stage: str, setting: Setting) -> Plan:
    return Plan(
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
