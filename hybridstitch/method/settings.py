"""The methods, and the settings that a run may give each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict, get_args

Method = Literal["hybrid", "large", "small", "srdiffusion", "t-stitch"]
METHODS: tuple[str, ...] = get_args(Method)
SETTINGS: dict[str, frozenset[str]] = {
    "hybrid": frozenset(
        ("large_steps", "hybrid_steps", "mask_ratio", "score", "residual", "refresh_every", "adaptive")
    ),
    "large": frozenset(),
    "small": frozenset(),
    "srdiffusion": frozenset(("large_steps", "residual", "adaptive")),
    "t-stitch": frozenset(("large_steps",)),
}
"""Which settings each method has, beside steps and guidance."""


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
