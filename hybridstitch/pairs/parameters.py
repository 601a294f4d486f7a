"""Sampling parameters from what a run says and, for the rest, the pair's recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Unpack

from hybridstitch.method.errors import HybridStitchError, shown
from hybridstitch.method.parameters import SamplingParameters, Score, Sketch
from hybridstitch.method.schedule import Schedule
from hybridstitch.method.settings import (
    METHODS,
    OFF,
    SETTINGS,
    SamplingSettings,
    Switch,
    find_setting,
    settings_of_method,
)

STAGE_LENGTHS = {"large_steps", "hybrid_steps"}
OF_HELD_TOKENS = ("extrapolate", "correct")
# Of all steps, where the recipe does not say.
LARGE_SHARE, HYBRID_SHARE = 0.25, 0.3


class MethodDefaults(Protocol):
    """What a recipe says of methods: the one that is taken by default, and each one's settings, steps among them."""

    @property
    def default_method(self) -> str: ...

    def settings(self, method: str) -> Mapping[str, Any]: ...


def make_parameters(
    recipe: MethodDefaults, method: str | None = None, **settings: Unpack[SamplingSettings]
) -> SamplingParameters:
    """Sampling parameters from what is given here and, for the rest, the recipe's defaults.

    Stage lengths of the recipe belong to the recipe's number of steps and are scaled to `steps`. Its grid, if that has
    fewer steps than are given here, is left out, and so are its score "change" with a single large step, and what it
    says of held tokens where none are held. Stage lengths given here end its adaptive switching, which would find them
    itself.

    Raises:
        HybridStitchError: an unknown method, a setting that this method does not have, or a value out of range.
    """
    method = recipe.default_method if method is None else method
    if not isinstance(method, str) or method not in METHODS:
        raise HybridStitchError(f"unknown method {shown(method)}; known: {', '.join(METHODS)}", parameter="method")
    given = _checked(method, settings)
    lengths = given.keys() & STAGE_LENGTHS
    if lengths and given.get("adaptive", OFF) != OFF:
        raise HybridStitchError(
            "adaptive switching finds the stage ends itself: give it or stage lengths, not both", parameter="adaptive"
        )
    chosen = {name: setting.default for name, setting in SETTINGS.items()}
    chosen |= recipe.settings(method)
    if lengths:
        chosen["adaptive"] = OFF
    if given.get("steps", 0) > chosen["grid"]:
        chosen["grid"] = 0
    chosen |= given
    steps, adaptive = chosen["steps"], chosen["adaptive"]
    large, hybrid = (steps, 0) if adaptive != OFF else _stage_lengths(method, recipe, chosen, given)
    if "score" not in given and large < 2:
        chosen["score"] = Score.GAP  # the other one compares two large steps
    if chosen["sketch"] != Sketch.HELD:
        chosen |= {name: SETTINGS[name].default for name in OF_HELD_TOKENS if name not in given}
    return SamplingParameters(
        method=method,  # type: ignore[arg-type]
        schedule=Schedule(
            steps=steps,
            large_until=large,
            hybrid_until=large + hybrid,
            small_first=method == "t-stitch",
            refresh_every=chosen["refresh_every"],
            grid=chosen["grid"],
        ),
        guidance=chosen["guidance"],
        mask_ratio=chosen["mask_ratio"],
        score=Score(chosen["score"]),
        residual=None if chosen["residual"] == OFF else chosen["residual"],
        adaptive=None if adaptive == OFF else adaptive,
        sketch=Sketch(chosen["sketch"]),
        extrapolate=chosen["extrapolate"],
        correct=Switch(chosen["correct"]),
    )


def _checked(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something, in their own types."""
    given = {name: value for name, value in settings.items() if value is not None}
    given = {name: find_setting(name).checked(value) for name, value in given.items()}
    own = settings_of_method(method)
    if foreign := sorted(given.keys() - own):
        beside = [name for name in own if name not in settings_of_method("large")]
        raise HybridStitchError(
            f"method {method!r} has no setting {foreign[0]!r}; its settings: {', '.join(sorted(beside)) or 'none'}",
            parameter=foreign[0],
        )
    return given


def _stage_lengths(
    method: str, recipe: MethodDefaults, chosen: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[int, int]:
    """Lengths of the large and the hybrid stage, in steps."""
    steps = chosen["steps"]
    if method in ("large", "small"):
        return (steps, 0) if method == "large" else (0, 0)
    own = recipe.settings(method)
    planned = own["steps"]
    share = steps / planned
    least = 2 if chosen["score"] == Score.CHANGE else 1
    scaled = max(least, round(own.get("large_steps", LARGE_SHARE * planned) * share))
    large = given.get("large_steps", min(steps, scaled))
    if method != "hybrid":
        return large, 0
    hybrid = min(steps - large, round(own.get("hybrid_steps", HYBRID_SHARE * planned) * share))
    return large, given.get("hybrid_steps", max(0, hybrid))
