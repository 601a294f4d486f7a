"""A plan: everything about a run that is not the prompt, the seed or the size."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from .errors import HybridStitchError
from .schedule import Schedule
from .settings import Method


class Score(StrEnum):
    """How hard a token is: the mean over its p*p*C values, after guidance, of

    GAP: |v_large - v_small| at the last large step (one extra call of the small model);
    CHANGE: |x0 - x0 before|, between the large model's clean-image estimates of its last two full steps.
    """

    GAP = "gap"
    CHANGE = "change"


@dataclass(frozen=True)
class Plan:
    """A method with its settings.

    schedule: the stage of each step. With `adaptive` it starts as large only, and the sampler ends its stages.
    guidance: classifier-free guidance scale; up to 1 there is none (as in diffusers).
    mask_ratio: share of the image tokens that the hybrid stage computes with the large model, 0..1.
    score: which tokens those are.
    residual: exponent q of the carried residual, or None: the paper's method, without it.
    adaptive: leave a stage once the relative L1 change of the large model's clean-image estimate between
        two steps falls under this, or None: leave at the fixed steps.
    """

    method: Method
    schedule: Schedule
    guidance: float
    mask_ratio: float = 0.3
    score: Score = Score.GAP
    residual: float | None = None
    adaptive: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mask_ratio <= 1:
            raise HybridStitchError(f"mask ratio must be from 0 to 1, not {self.mask_ratio:g}")
        if not 0 <= self.guidance <= 100:
            raise HybridStitchError(f"guidance must be from 0 to 100, not {self.guidance:g}")
        if self.residual is not None and not 0 <= self.residual <= 16:
            raise HybridStitchError(f"residual exponent must be from 0 to 16, or off, not {self.residual:g}")
        if self.adaptive is not None and not 0 < self.adaptive < 1:
            raise HybridStitchError(f"adaptive threshold must be between 0 and 1, not {self.adaptive:g}")
        if self.schedule.has_hybrid and self.score is Score.CHANGE and self.schedule.large_until < 2:
            raise HybridStitchError("score 'change' compares two large steps: it needs at least 2 of them, not 1")

    @property
    def has_hybrid(self) -> bool:
        """Whether there may be a hybrid stage, and so keys and values to keep."""
        return self.schedule.has_hybrid or (self.adaptive is not None and self.method == "hybrid")

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON: flat, and enough to make it again (`settings_from`)."""
        settings = asdict(self)
        schedule = settings.pop("schedule")
        large = schedule["large_until"]
        return {
            "method": self.method,
            "steps": schedule["steps"],
            "large_steps": large,
            "hybrid_steps": schedule["hybrid_until"] - large,
            "refresh_every": schedule["refresh_every"],
            **settings,
            "score": str(self.score),
        }
