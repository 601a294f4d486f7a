"""The method: one loop over two models, in three stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .masks import Choose, hardest, relative_change
from .parameters import SamplingParameters
from .program import MASKED, Kind, StepSpec, make_program
from .schedule import Stage
from .state import State
from .steps import KINDS, Models, advance, estimate, freeze, leave_mask, measure, move_keys
from .tokens import gather


@dataclass(frozen=True)
class Step:
    """A step that has been made: the index-th, and what it did."""

    index: int
    spec: StepSpec

    @property
    def stage(self) -> Stage:
        return self.spec.stage


class Sampler:
    """Draws by S Euler steps of the rectified flow, one each time that the caller asks for the next.

    On a GPU a step is enqueued, not waited for. Where nothing is iterated any more, nothing happens any more: to cancel
    a run is to stop asking.

    models: the pair. state: the run's tensors; its `x` holds noise at the start and clean tokens at the end.
    levels: [S, 4], see `levels`, from the checkpoint's scheduler.
    parameters: guidance and residual exponent are the state's, of each image; here counts only whether there is a
    residual. exponent: of the residual, where all images have the same. choose: scores [B, N] and M to the mask.
    program, schedule: what is run, and the stages of it; adaptive switching replaces the rest of both on the way.

    Iterate in inference mode.
    Source: HybridStitch, arXiv 2603.07815, section 3; the README has it as a table.
    """

    def __init__(
        self,
        models: Models,
        state: State,
        levels: Tensor,
        parameters: SamplingParameters,
        *,
        exponent: float | None = None,
        choose: Choose = hardest,
    ) -> None:
        self.schedule, self.program = parameters.schedule, make_program(parameters)
        self._models, self._state, self._levels, self._parameters = models, state, levels, parameters
        self._exponent, self._choose = exponent, choose

    @property
    def hybrid_steps(self) -> int:
        """How many steps of the program compute masked tokens alone."""
        return sum(step.kind in MASKED for step in self.program)

    def __iter__(self) -> Iterator[Step]:
        models, state = self._models, self._state
        state.refined.zero_()
        for index, level in enumerate(self._levels):
            state.level.copy_(level)
            state.index.fill_(index)
            step = self.program[index]
            KINDS[step.kind](models, state, step, self._exponent)
            if step.estimate:
                estimate(state)
                step = self._adapt(index)
            if step.mask_used:
                leave_mask(state, step)
            elif step.kind is Kind.HELD and step.extrapolate:
                move_keys(models, state)
            if step.measure or step.score:
                self._hand_over(step)
            if step.estimate and step.kind is Kind.FULL:
                state.full_estimate.copy_(state.estimate)
            advance(state)
            yield Step(index, step)

    def _hand_over(self, step: StepSpec) -> None:
        """Measure the residual, and make the mask of the steps that follow."""
        scores = measure(self._models, self._state, step)
        if scores is not None:
            mask = self._choose(scores, self._state.computed.shape[1])
            freeze(self._models, self._state, step, mask)

    def _adapt(self, index: int) -> StepSpec:
        """End the stage of this step if its clean-image estimate has settled. Returns the step with what follows it."""
        if (
            self._parameters.adaptive is not None
            and index
            and self._settled(self._parameters.adaptive, self.program[index])
        ):
            ended = index + 1
            if self.program[index].stage is Stage.LARGE:
                self.schedule = self.schedule.end_large(ended, hybrid=self._parameters.has_hybrid)
            else:
                self.schedule = self.schedule.end_hybrid(ended)
            self.program = make_program(self._parameters, self.schedule)
        return self.program[index]

    def _settled(self, threshold: float, step: StepSpec) -> bool:
        """Whether a step changed the clean-image estimate by less, of the masked tokens in the hybrid stage (reads one
        scalar)."""
        state = self._state
        if step.stage is Stage.LARGE:
            return bool(relative_change(state.estimate, state.before) < threshold)
        if step.stage is Stage.SMALL or not state.computed.shape[1]:  # nothing of the large model's to look at
            return False
        now, before = (gather(each, state.computed) for each in (state.estimate, state.before))
        return bool(relative_change(now, before) < threshold)
