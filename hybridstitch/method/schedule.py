"""Which model computes which tokens at which step: the stage of a step is decided here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from .errors import HybridStitchError
from .settings import SETTINGS


class Stage(StrEnum):
    """What a step computes: all tokens by the large model, some of them, or none."""

    LARGE = "large"
    HYBRID = "hybrid"
    SMALL = "small"


@dataclass(frozen=True)
class Schedule:
    """The stages of S steps: large before `large_until` (a), hybrid before `hybrid_until` (b), then small.

    Half-open: step i is large for 0 <= i < a, hybrid for a <= i < b, small for b <= i < S. The other methods
    are points of the same schedule: large only (a = b = S), small only (a = b = 0), SRDiffusion (a = b) and, run
    in the other order (`small_first`), T-Stitch. `refresh_every` = r > 0 puts a full large step after every
    r hybrid steps; it renews the frozen keys and values and the mask. `grid` = G > 0: the noise levels are S of those
    of G steps, see `noise_levels`.

    Source: HybridStitch, arXiv 2603.07815, section 3.

    Raises:
        HybridStitchError: stage ends out of order or out of range, a hybrid stage with nothing to freeze, or a grid of
            fewer steps.
    """

    steps: int
    large_until: int
    hybrid_until: int
    small_first: bool = False
    refresh_every: int = 0
    grid: int = 0

    def __post_init__(self) -> None:
        SETTINGS["steps"].checked(self.steps)
        if not 0 <= self.large_until <= self.hybrid_until <= self.steps:
            raise HybridStitchError(
                f"{self.large_until} large and {self.hybrid_until - self.large_until} hybrid steps do not fit "
                f"into {self.steps} steps; both must be at least 0 and their sum at most {self.steps}",
                parameter="hybrid_steps" if 0 <= self.large_until <= self.steps else "large_steps",
            )
        if self.has_hybrid and (self.large_until == 0 or self.small_first):
            raise HybridStitchError(
                "a hybrid stage needs at least 1 large step before it: it computes with that step's keys and values",
                parameter="large_steps",
            )
        SETTINGS["refresh_every"].checked(self.refresh_every)
        SETTINGS["grid"].checked(self.grid)
        if 0 < self.grid < self.steps:
            raise HybridStitchError(
                f"grid must be 0 or at least the steps, {self.steps}, not {self.grid}", parameter="grid"
            )

    @property
    def has_hybrid(self) -> bool:
        return self.hybrid_until > self.large_until

    def as_settings(self) -> dict[str, int]:
        """The settings that make this schedule, by their names."""
        return {
            "steps": self.steps,
            "large_steps": self.large_until,
            "hybrid_steps": self.hybrid_until - self.large_until,
            "refresh_every": self.refresh_every,
            "grid": self.grid,
        }

    def stage(self, step: int) -> Stage:
        """The stage of step 0 <= step < steps."""
        position = self.steps - 1 - step if self.small_first else step
        if position < self.large_until:
            return Stage.LARGE
        return Stage.HYBRID if position < self.hybrid_until else Stage.SMALL

    def runs_full(self, step: int) -> bool:
        """Whether the large model computes every token: in the large stage, and in a refresh of the hybrid one."""
        stage = self.stage(step)
        if stage is Stage.HYBRID and self.refresh_every:
            return (step - self.large_until) % (self.refresh_every + 1) == self.refresh_every
        return stage is Stage.LARGE

    def end_large(self, step: int, *, hybrid: bool) -> Schedule:
        """The same schedule with the large stage ended before `step`; all that follows is hybrid, or small."""
        return replace(self, large_until=step, hybrid_until=self.steps if hybrid else step)

    def end_hybrid(self, step: int) -> Schedule:
        """The same schedule with the hybrid stage ended before `step`."""
        return replace(self, hybrid_until=step)
