"""The method: one loop over two models, in three stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .masks import Mask, hardest, masked_count, relative_change, token_mean
from .plan import Plan, Score
from .residual import Residual
from .schedule import Schedule, Stage
from .tokens import gather, stitch


class Models(Protocol):
    """The pair, as the sampler sees it. Velocities are guided; x is [B, N, W], timestep a scalar tensor.

    A velocity is valid until the next call of the same model: it may be the engine's own buffer.
    """

    def large(self, x: Tensor, timestep: Tensor) -> Tensor:
        """The large model on all tokens -> [B, N, W]; it leaves its image keys and values for `freeze`."""
        ...

    def small(self, x: Tensor, timestep: Tensor) -> Tensor:
        """The small model on all tokens -> [B, N, W]."""
        ...

    def freeze(self, mask: Mask) -> None:
        """Fix the keys and values of the mask's frozen tokens, from the last full call."""
        ...

    def hybrid(self, x: Tensor, timestep: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """Large on the masked tokens [B, M, W] and small on all [B, N, W]; neither waits for the other's result."""
        ...


@dataclass(frozen=True)
class Step:
    """What one step did. `estimate` is its clean-image estimate x0 [B, N, W], for previews."""

    index: int
    stage: Stage
    full: bool
    estimate: Tensor


@dataclass
class Trace:
    """What a run did: the schedule as it came out (adaptive switching decides it on the way), the masks, and for
    each mask the number of steps that it was used in."""

    schedule: Schedule
    masks: list[Mask] = field(default_factory=list)
    mask_steps: list[int] = field(default_factory=list)


@torch.inference_mode()
def sample(
    models: Models,
    noise: Tensor,
    sigmas: Tensor,
    timesteps: Tensor,
    plan: Plan,
    *,
    token_bucket: int = 1,
    on_step: Callable[[Step], None] | None = None,
) -> tuple[Tensor, Trace]:
    """Draw: noise [B, N, W] -> clean tokens [B, N, W], by S Euler steps of the rectified flow.

    Args:
        models: the pair.
        sigmas, timesteps: [S+1] and [S] of the checkpoint's scheduler, fp32, on noise's device.
        plan: see `Plan`.
        token_bucket: masked token counts are rounded up to a multiple of this.
        on_step: called after each step; what it raises ends the run.

    Source: HybridStitch, arXiv 2603.07815, section 3; the README has it as a table.
    """
    schedule, residual, trace = plan.schedule, Residual(plan.residual), Trace(plan.schedule)
    count = masked_count(noise.shape[1], plan.mask_ratio, token_bucket)
    x, mask, estimate, full_estimate = noise.float(), None, None, None

    for step in range(schedule.steps):
        sigma, timestep = sigmas[step], timesteps[step]
        stage, full = schedule.stage(step), schedule.runs_full(step)

        if full:
            velocity = models.large(x, timestep)
        elif stage is Stage.HYBRID:
            assert mask is not None  # the full step before has made it
            hard, small = models.hybrid(x, timestep, mask)
            velocity = stitch(residual.correct(small, sigma), hard, mask.computed)
            residual.renew(hard, small, sigma, mask)
            trace.mask_steps[-1] += 1
        else:
            velocity = residual.correct(models.small(x, timestep), sigma)

        before, estimate = estimate, x - sigma * velocity
        schedule = _adapt(plan, schedule, step, mask, estimate, before)

        if schedule.hands_over(step):
            hybrid_next = schedule.stage(step + 1) is Stage.HYBRID
            scores = token_mean(estimate - full_estimate) if full_estimate is not None else None
            if residual.on or (hybrid_next and plan.score is Score.GAP):
                small = models.small(x, timestep)
                residual.measure(velocity, small, sigma)
                scores = token_mean(velocity - small) if plan.score is Score.GAP else scores
            if hybrid_next and scores is not None:
                mask = hardest(scores, count)
                models.freeze(mask)
                trace.masks.append(mask)
                trace.mask_steps.append(0)

        full_estimate = estimate if full else full_estimate
        x = x + (sigmas[step + 1] - sigma) * velocity
        if on_step is not None:
            on_step(Step(step, stage, full, estimate))

    trace.schedule = schedule
    return x, trace


def _adapt(
    plan: Plan, schedule: Schedule, step: int, mask: Mask | None, now: Tensor, before: Tensor | None
) -> Schedule:
    """End the stage that this step belongs to, once its clean-image estimate has settled (reads one scalar)."""
    if plan.adaptive is None or before is None or schedule.stage(step) is Stage.SMALL:
        return schedule
    if schedule.stage(step) is Stage.LARGE:
        settled = relative_change(now, before) < plan.adaptive
        return schedule.end_large(step + 1, hybrid=plan.has_hybrid) if settled else schedule
    if mask is None or not mask.computed.shape[1]:
        return schedule  # nothing of the large model's to look at
    settled = relative_change(gather(now, mask.computed), gather(before, mask.computed)) < plan.adaptive
    return schedule.end_hybrid(step + 1) if settled else schedule
