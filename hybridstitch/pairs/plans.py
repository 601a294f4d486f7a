"""A plan from what a run says and, for the rest, the pair's recipe."""

from __future__ import annotations

from typing import Any, Unpack

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import finite, whole
from hybridstitch.method.plan import Plan, Score
from hybridstitch.method.schedule import STEPS, Schedule
from hybridstitch.method.settings import METHODS, SETTINGS, PlanSettings

from .recipe import MethodDefaults, Recipe


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
