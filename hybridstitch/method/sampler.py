"""The method: one loop over two models, in three stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .masks import Choose, hardest, relative_change
from .plan import Plan, Score, Sketch
from .schedule import Stage
from .state import State
from .steps import (
    Models,
    advance,
    estimate,
    full_step,
    hand_over,
    held_step,
    hybrid_step,
    leave_mask,
    small_step,
)
from .tokens import gather


@dataclass(frozen=True)
class Step:
    """What one step did: `full` if the large model computed every token."""

    index: int
    stage: Stage
    full: bool


class Sampler:
    """Draws by S Euler steps of the rectified flow, one each time that the caller asks for the next.

    On a GPU a step is enqueued, not waited for. Where nothing is iterated any more, nothing happens any more: to cancel
    a run is to stop asking.

    models: the pair. state: the run's tensors; its `x` holds noise at the start and clean tokens at the end.
    levels: [S, 4], see `levels`, from the checkpoint's scheduler.
    plan: guidance and residual exponent are the state's, of each image; of the plan counts only whether there is a
    residual. exponent: of the residual, where all images have the same. schedule: as it came out; adaptive switching
    decides it on the way. hybrid_steps: with the large model on masked tokens, until now. choose: scores [B, N] and M
    to the mask.

    Iterate in inference mode.
    Source: HybridStitch, arXiv 2603.07815, section 3; the README has it as a table.
    """

    def __init__(
        self,
        models: Models,
        state: State,
        levels: Tensor,
        plan: Plan,
        *,
        exponent: float | None = None,
        choose: Choose = hardest,
    ) -> None:
        self.schedule = plan.schedule
        self.hybrid_steps = 0
        self._models, self._state, self._levels, self._plan = models, state, levels, plan
        self._exponent, self._choose = exponent, choose
        self._estimates = plan.adaptive is not None or (plan.has_hybrid and plan.score is Score.CHANGE)

    def __iter__(self) -> Iterator[Step]:
        models, state, exponent = self._models, self._state, self._exponent
        held = self._plan.sketch is Sketch.HELD
        carry, masked = False, 0  # whether there is a residual; hybrid steps with this mask
        state.refined.zero_()
        for index, level in enumerate(self._levels):
            state.level.copy_(level)
            state.index.fill_(index)
            stage, full = self.schedule.stage(index), self.schedule.runs_full(index)
            if full:
                full_step(models, state)
            elif stage is Stage.HYBRID:
                if held:
                    held_step(models, state)
                else:
                    hybrid_step(models, state, carry=carry, exponent=exponent)
                masked += 1
                self.hybrid_steps += 1
            else:
                small_step(models, state, carry=carry, exponent=exponent)
            if self._estimates:
                estimate(state)
                self._adapt(index)
            if stage is Stage.HYBRID and self.schedule.leaves_mask(index):
                leave_mask(state, hybrid_steps=masked, renew=carry and not held)
                masked = 0
            if full and self.schedule.hands_over(index):
                carry = self._plan.carries(self.schedule, index)
                self._hand_over(index, carry=carry)
            if self._estimates and full:
                state.full_estimate.copy_(state.estimate)
            advance(state)
            yield Step(index, stage, full)

    def _hand_over(self, index: int, *, carry: bool) -> None:
        hybrid_next = self.schedule.stage(index + 1) is Stage.HYBRID
        scores = hand_over(self._models, self._state, score=self._plan.score if hybrid_next else None, carry=carry)
        if scores is not None:
            mask = self._choose(scores, self._state.computed.shape[1])
            self._state.computed.copy_(mask.computed)
            self._state.frozen.copy_(mask.frozen)
            self._models.freeze(self._state.mask)

    def _adapt(self, index: int) -> None:
        """End the stage that this step belongs to, once its clean-image estimate has settled (reads one scalar)."""
        threshold, state, stage = self._plan.adaptive, self._state, self.schedule.stage(index)
        if threshold is None or index == 0 or stage is Stage.SMALL:
            return
        if stage is Stage.LARGE:
            if relative_change(state.estimate, state.before) < threshold:
                self.schedule = self.schedule.end_large(index + 1, hybrid=self._plan.has_hybrid)
        elif state.computed.shape[1]:  # else there is nothing of the large model's to look at
            now, before = (gather(estimate, state.computed) for estimate in (state.estimate, state.before))
            if relative_change(now, before) < threshold:
                self.schedule = self.schedule.end_hybrid(index + 1)
