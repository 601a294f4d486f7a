"""What each step of a run does, decided once: the sampler runs a program, the time model counts it.

Adaptive switching ends stages on the way: then a new program, of the schedule as it came out, replaces what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from .parameters import SamplingParameters
from .schedule import Schedule, Stage
from .settings import Score, Sketch


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
    """

    kind: Kind
    stage: Stage
    carry: bool = False
    estimate: bool = False
    mask_used: int = 0
    renew: bool = False
    measure: bool = False
    score: Score | None = None


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
    return tuple(steps)


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
