"""Tables of held tokens that move on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .measured import Row, beside, better, bold, closeness, evaluated, markdown, result, right, speedup

MOVING = "eval-demo-moving-on"
PLANS = {"22 steps, 15 %": "5+17/22 f1 m0.15", "16 steps, 15 %": "4+12/16 f1 m0.15", "12 steps, 30 %": "5+7/12 f1 m0.3"}
"""Of held tokens, on the grid of 28: steps and the share of the tokens that held steps compute."""


def moved(plan: str, part: float = 0.5, correct: str = "on") -> Row:
    """A plan whose held tokens move on along that part of their change, and are corrected or not."""
    return evaluated(MOVING, f"held {plan} g28 e{part} correct {correct}")


def at_full_size(row: Row) -> str:
    """How much faster a plan is than 28 full steps by the operations of Stable Diffusion 3.5 large at 1024x1024."""
    settings = row["settings"]
    if settings["method"] == "large":
        return f"{28 / settings['steps']:.2f}x"
    full = settings["large_steps"] + settings["hybrid_steps"] // (settings["refresh_every"] + 1)
    shares = {"0": 0.0, **result("sd35-operations")["masked_share_of_full"]}
    cost = full + (settings["steps"] - full) * shares[f"{settings['mask_ratio']:g}"]
    return f"{28 / cost:.2f}x"


def ways() -> str:
    """Held tokens that move on, that are corrected, and both."""
    every = {"as they were": (0.0, "off"), "moved on": (0.5, "off"), "corrected": (0.0, "on"), "both": (0.5, "on")}
    rows = []
    for label, plan in PLANS.items():
        evaluations = [moved(plan, *way) for way in every.values()]
        closest = max(evaluations, key=lambda row: row["means"]["psnr"]["mean"])
        cells = [bold(closeness(row), row is closest) for row in evaluations]
        grid = [f"{beside(evaluations[place]['beside_grid']['psnr'])} dB" for place in (0, -1)]
        rows.append([label, speedup(evaluations[0]), at_full_size(evaluations[0]), *cells, *grid])
    ends = ("as they were, beside large on its grid", "both, beside large on its grid")
    return markdown(("plan", "speed-up", "of SD3.5", *every, *ends), rows)


def small_end() -> str:
    """12 steps whose last is the small model's, as in the recipe, and without it."""
    plans = {"the recipe's three stages": "5+6/12 r1.0 f1 m0.3", "without the small step": PLANS["12 steps, 30 %"]}
    rows = []
    for label, plan in plans.items():
        for moves, way in {"as they were": (0.0, "off"), "moved on and corrected": (0.5, "on")}.items():
            row = moved(plan, *way)
            grid = row["beside_grid"]
            cells = [closeness(row), f"{beside(grid['psnr'])} dB", right(row), beside(grid["all_right"], 100, 0)]
            rows.append([label, moves, speedup(row), *cells])
    return markdown(
        ("", "held tokens", "speed-up", "PSNR", "beside large on its grid", "right", "beside large on its grid"), rows
    )


def parts() -> str:
    """How far held tokens move on, corrected."""
    every = (0.0, 0.25, 0.5, 0.75, 1.0)
    evaluations = [moved(PLANS["22 steps, 15 %"], part) for part in every]
    rows = [["PSNR", *(closeness(row) for row in evaluations)]]
    rows.append(["beside large on its grid", *(f"{beside(row['beside_grid']['psnr'])} dB" for row in evaluations)])
    return markdown(("extrapolate", *(f"{part:g}" for part in every)), rows)


def masks() -> str:
    """Moved on and corrected, by mask and full steps, beside the large model on its grid; bold: better than that."""
    plans = [row for row in result(MOVING)["rows"] if _is_moved_or_grid(row["settings"])]
    rows = []
    for row in sorted(plans, key=lambda row: row["speedup"]):
        settings, grid = row["settings"], row["beside_grid"]
        alone = settings["method"] == "large"
        mask = "" if alone else f"{100 * settings['mask_ratio']:g} %" if settings["mask_ratio"] else "none"
        every = "" if alone else {1: "every other", 2: "every third"}[settings["refresh_every"]]
        rows.append(
            [
                f"large, {settings['steps']} of its grid" if alone else f"{settings['steps']} steps",
                "" if alone else str(settings["large_steps"]),
                mask,
                every,
                speedup(row),
                at_full_size(row),
                closeness(row),
                bold(beside(grid.get("psnr")), better(grid.get("psnr"))),
                right(row),
                bold(beside(grid.get("all_right"), 100, 0), better(grid.get("all_right"))),
            ]
        )
    grid = ("PSNR", "beside large on its grid", "right", "beside large on its grid")
    return markdown(("", "large", "mask", "full steps after them", "speed-up", "of SD3.5", *grid), rows)


def _is_moved_or_grid(settings: Mapping[str, Any]) -> bool:
    if settings["method"] == "large":
        return bool(settings.get("grid"))
    to_the_end = settings["large_steps"] + settings["hybrid_steps"] == settings["steps"]
    return to_the_end and (settings["extrapolate"], settings["correct"]) == (0.5, "on")
