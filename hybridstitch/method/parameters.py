"""Sampling parameters: everything about a run that is not the prompt, the seed or the size."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .errors import HybridStitchError
from .geometry import masked_count
from .schedule import Schedule
from .settings import SETTINGS, Method, Score, Sketch, Switch


@dataclass(frozen=True)
class SamplingParameters:
    """A method with its settings.

    schedule: the stage of each step. With `adaptive` it starts as large only, and the sampler ends its stages.
    guidance: classifier-free guidance scale; up to 1 there is none (as in diffusers).
    mask_ratio: share of the image tokens that the hybrid stage computes with the large model, 0..1.
    score: which tokens those are.
    residual: exponent q of the carried residual, or None: the paper's method, without it.
    adaptive: leave a stage once the relative L1 change of the large model's clean-image estimate between
        two steps falls under this, or None: leave at the fixed steps.
    sketch: what the tokens that a hybrid step does not refine take.
    extrapolate: which part of their change between the last two full steps held tokens move on along, 0..1.
    correct: whether a full step corrects what held tokens did since the last one.
    """

    method: Method
    schedule: Schedule
    guidance: float
    mask_ratio: float = 0.3
    score: Score = Score.GAP
    residual: float | None = None
    adaptive: float | None = None
    sketch: Sketch = Sketch.SMALL
    extrapolate: float = 0.0
    correct: Switch = Switch.OFF

    def __post_init__(self) -> None:
        for name, value in self._own().items():
            if value is not None:
                SETTINGS[name].checked(value)
        if self.schedule.has_hybrid and self.score is Score.CHANGE and self.schedule.large_until < 2:
            raise HybridStitchError(
                "score 'change' compares two large steps: it needs at least 2 of them, not 1", parameter="score"
            )
        if self.sketch is not Sketch.HELD:
            for name, used in (("extrapolate", self.extrapolate > 0), ("correct", self.correct is Switch.ON)):
                if used:
                    raise HybridStitchError(
                        f"{name} concerns held tokens: it needs sketch 'held', not '{self.sketch}'", parameter=name
                    )

    @property
    def has_hybrid(self) -> bool:
        """Whether there may be a hybrid stage, and so keys and values to keep."""
        return self.schedule.has_hybrid or (self.adaptive is not None and self.method == "hybrid")

    def masked_tokens(self, tokens: int, bucket: int) -> int | None:
        """M, of N image tokens those that a hybrid step computes with the large model; None: there is no such step.

        bucket: M is a multiple of it, or all tokens.
        """
        return masked_count(tokens, self.mask_ratio, bucket) if self.has_hybrid else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON: flat, every setting by its name, and enough to make it again (`settings_from`)."""
        return {"method": self.method, **self.schedule.as_settings(), **self._own()}

    def _own(self) -> dict[str, Any]:
        """The settings that are not the schedule's; None: off."""
        fields = {name: getattr(self, name) for name in SETTINGS if hasattr(self, name)}
        return {name: str(value) if isinstance(value, StrEnum) else value for name, value in fields.items()}
