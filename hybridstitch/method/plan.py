"""A plan: everything about a run that is not the prompt, the seed or the size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, TypedDict, Unpack

from .errors import HybridStitchError
from .numbers import finite, whole
from .recipe import METHODS, SETTINGS, Method, MethodDefaults, Recipe
from .schedule import STEPS, Schedule


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


class PlanSettings(TypedDict, total=False):
    """What a run may say about its plan; what it leaves out, or gives as None, is the recipe's.

    large_steps counts the steps of the large stage (for T-Stitch, which ends with it, too) and hybrid_steps
    those of the hybrid stage; the rest is as in `Plan`. A residual of "off" is the paper's method.
    """

    steps: int | None
    guidance: float | None
    large_steps: int | None
    hybrid_steps: int | None
    mask_ratio: float | None
    score: str | None
    residual: float | Literal["off"] | None
    refresh_every: int | None
    adaptive: float | None


def make_plan(recipe: Recipe, method: str | None = None, **settings: Unpack[PlanSettings]) -> Plan:
    """A plan from what is given here and, for the rest, the recipe's defaults.

    Stage lengths of the recipe belong to the recipe's number of steps and are scaled to `steps`.

    Raises:
        HybridStitchError: an unknown method, a setting that this method does not have, or a value out of range.
    """
    method = recipe.defaults.method if method is None else method
    if method not in METHODS:
        raise HybridStitchError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    given = {name: _checked(name, value) for name, value in settings.items() if value is not None}
    _refuse_foreign_settings(method, set(given) - {"steps", "guidance"})
    defaults: MethodDefaults = recipe.methods.get(method, MethodDefaults())  # type: ignore[arg-type]
    steps = given.get("steps", recipe.defaults.steps)

    def choose(name: str, otherwise: Any = None) -> Any:
        value = given.get(name, getattr(defaults, name))
        return otherwise if value is None else value

    threshold = choose("adaptive")
    if threshold is not None and given.keys() & {"large_steps", "hybrid_steps"}:
        raise HybridStitchError("adaptive switching finds the stage ends itself: give it or stage lengths, not both")
    large, hybrid = _stage_lengths(method, steps, recipe, defaults, given.get("large_steps"), given.get("hybrid_steps"))
    if threshold is not None:
        large, hybrid = steps, 0
    exponent = choose("residual")
    try:
        rule = Score(choose("score", Score.GAP))
    except ValueError:
        raise HybridStitchError(f"unknown score {given['score']!r}; known: {', '.join(Score)}") from None
    return Plan(
        method=method,  # type: ignore[arg-type]
        schedule=Schedule(
            steps=steps,
            large_until=large,
            hybrid_until=large + hybrid,
            small_first=method == "t-stitch",
            refresh_every=choose("refresh_every", 0),
        ),
        guidance=given.get("guidance", recipe.defaults.guidance),
        mask_ratio=choose("mask_ratio", 0.3),
        score=rule,
        residual=None if exponent == "off" else exponent,
        adaptive=threshold,
    )


def settings_from(report: Mapping[str, Any]) -> PlanSettings:
    """The settings for `make_plan` that make the plan of a report (`Plan.as_dict`) again.

    Of a plan with adaptive switching it makes the fixed plan that was found: the same picture.

    Raises:
        KeyError: what is given is no such report.
    """
    own = (SETTINGS[report["method"]] | {"steps", "guidance"}) - {"adaptive"}
    settings = {name: report[name] for name in sorted(own)}
    if "residual" in settings and settings["residual"] is None:
        settings["residual"] = "off"
    return PlanSettings(**settings)


def _checked(name: str, value: Any) -> Any:
    """A setting as the type that it has in a plan; whether it is in range is for the plan to say."""
    if name not in PlanSettings.__annotations__:
        raise HybridStitchError(f"unknown setting {name!r}; known: {', '.join(PlanSettings.__annotations__)}")
    words = name.replace("_", " ")
    if name == "steps":
        return whole(name, value, STEPS)
    if name in ("large_steps", "hybrid_steps", "refresh_every"):
        return whole(words, value)
    if name == "score":
        return value
    if name == "residual":
        return value if value == "off" else finite("residual (an exponent, or 'off')", value)
    return finite(words, value)


def _refuse_foreign_settings(method: str, given: set[str]) -> None:
    foreign = sorted(given - SETTINGS[method])
    if foreign:
        allowed = ", ".join(sorted(SETTINGS[method])) or "none"
        raise HybridStitchError(f"method {method!r} has no setting {foreign[0]!r}; its settings: {allowed}")


def _stage_lengths(
    method: str,
    steps: int,
    recipe: Recipe,
    defaults: MethodDefaults,
    large_steps: int | None,
    hybrid_steps: int | None,
) -> tuple[int, int]:
    """Lengths of the large and the hybrid stage, in steps."""
    if method == "large":
        return steps, 0
    if method == "small":
        return 0, 0
    share = steps / recipe.defaults.steps
    default_large = 0.25 * recipe.defaults.steps if defaults.large_steps is None else defaults.large_steps
    large = large_steps if large_steps is not None else min(steps, max(1, round(default_large * share)))
    if method != "hybrid":
        return large, 0
    default_hybrid = 0.3 * recipe.defaults.steps if defaults.hybrid_steps is None else defaults.hybrid_steps
    hybrid = hybrid_steps if hybrid_steps is not None else round(default_hybrid * share)
    return large, hybrid if hybrid_steps is not None else max(0, min(hybrid, steps - large))
