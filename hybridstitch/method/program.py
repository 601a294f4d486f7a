"""What each step of a run does, decided once: the sampler runs a program, the time model counts it.

Adaptive switching ends stages on the way: then a new program, of the schedule as it came out, replaces what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile

from .parameters import SamplingParameters
from .schedule import Schedule, Stage
from .settings import Score, Sketch, Switch


class Kind(StrEnum):
    """What is computed in a step:

    FULL: the large model on every token. HYBRID: the large one on the masked tokens, the small one on all.
    HELD: the large one on the masked tokens; the others keep their velocity. SMALL: the small one on every token.
    """

    FULL = "full"
    HYBRID = "hybrid"
    HELD = "held"
    SMALL = "small"


MASKED = (Kind.HYBRID, Kind.HELD)
"""The kinds in which the large model computes the masked tokens alone."""


@dataclass(frozen=True)
class StepSpec:
    """One step, and what follows it before the next.

    stage: the one that it belongs to. carry: whether the small model's velocity gets the carried residual.
    estimate: whether its clean-image estimate is kept, to score tokens or to end stages by.
    mask_used: how many steps computed the mask that ends here; 0: none ends.
    renew: whether the residual of that mask's tokens is measured again.
    measure: whether the small model is called once more, to measure v_large - v_small.
    score: how tokens are scored for the next mask; None: no mask is made.
    remember: whether a full step keeps its velocity, because a later step goes by how it changes.
    extrapolate: along which part of the change between the last two full steps held tokens move on: in a held step,
        and after a full one in the held steps that follow; 0: they stay as they were.
    correct: whether a held step's velocities are corrected by the next full step, and a full step corrects those.
    """

    kind: Kind
    stage: Stage
    carry: bool = False
    estimate: bool = False
    mask_used: int = 0
    renew: bool = False
    measure: bool = False
    score: Score | None = None
    remember: bool = False
    extrapolate: float = 0.0
    correct: bool = False


Program = tuple[StepSpec, ...]


def make_program(parameters: SamplingParameters, schedule: Schedule | None = None) -> Program:
    """The steps of a run.

    Args:
        schedule: the parameters' own, or what adaptive switching has made of it. Steps that are done stay the same.
    """
    schedule = parameters.schedule if schedule is None else schedule
    estimate = parameters.adaptive is not None or (parameters.has_hybrid and parameters.score is Score.CHANGE)
    kinds = [_kind(parameters, schedule, index) for index in range(schedule.steps)]
    steps: list[StepSpec] = []
    carry, mask_used = False, 0  # whether there is a residual; steps with this mask until now
    for index, kind in enumerate(kinds):
        following = kinds[index + 1] if index + 1 < len(kinds) else None
        mask_used += kind in MASKED
        ends_mask = kind in MASKED and following not in MASKED
        hands_over = kind is Kind.FULL and following not in (Kind.FULL, None)
        carries = hands_over and _is_carried(parameters, kinds[index + 1 :])
        score = parameters.score if hands_over and following in MASKED else None
        steps.append(
            StepSpec(
                kind=kind,
                stage=schedule.stage(index),
                carry=carry and kind in (Kind.HYBRID, Kind.SMALL),
                estimate=estimate,
                mask_used=mask_used if ends_mask else 0,
                renew=ends_mask and carry and kind is Kind.HYBRID,
                measure=carries or score is Score.GAP,
                score=score,
            )
        )
        carry = carries if hands_over else carry
        mask_used = 0 if ends_mask else mask_used
    moves = parameters.extrapolate > 0 or parameters.correct is Switch.ON
    return _with_trend(parameters, steps) if moves and parameters.has_hybrid else tuple(steps)


def remembers(program: Program) -> bool:
    """Whether velocities of full steps are compared."""
    return any(step.remember for step in program)


def extrapolates(program: Program) -> bool:
    """Whether held tokens, their keys and values move on."""
    return any(step.extrapolate for step in program)


def _with_trend(parameters: SamplingParameters, steps: list[StepSpec]) -> Program:
    """The same steps, with what they need to extrapolate and to correct. Where adaptive switching has yet to decide,
    held steps may follow any full one."""
    extended, undecided = list(steps), parameters.adaptive is not None
    last, held = -1, []  # the last full step, and the held ones since then
    for index, step in enumerate(steps):
        if step.kind is Kind.HELD:
            extended[index] = replace(step, extrapolate=extended[last].extrapolate)
            held.append(index)
        if step.kind is Kind.FULL:
            held_follow = undecided or (index + 1 < len(steps) and steps[index + 1].kind is Kind.HELD)
            part = parameters.extrapolate if last >= 0 and held_follow else 0.0
            correct = parameters.correct is Switch.ON and bool(held)
            extended[index] = replace(step, remember=undecided or part > 0, extrapolate=part, correct=correct)
            if part or correct:
                extended[last] = replace(extended[last], remember=True)
            if correct:
                for each in held:
                    extended[each] = replace(extended[each], correct=True)
            last, held = index, []
    return tuple(extended)


def _kind(parameters: SamplingParameters, schedule: Schedule, step: int) -> Kind:
    if schedule.runs_full(step):
        return Kind.FULL
    if schedule.stage(step) is Stage.SMALL:
        return Kind.SMALL
    return Kind.HELD if parameters.sketch is Sketch.HELD else Kind.HYBRID


def _is_carried(parameters: SamplingParameters, following: list[Kind]) -> bool:
    """Whether a step that follows adds the residual: a sketched one, before the next full step or, where adaptive
    switching has yet to decide, perhaps."""
    if parameters.residual is None:
        return False
    until_full = takewhile(lambda kind: kind is not Kind.FULL, following)
    return parameters.sketch is Sketch.SMALL or parameters.adaptive is not None or Kind.SMALL in until_full
