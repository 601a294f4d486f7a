"""What is compared: every method over its settings and steps, and one setting at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.pipeline import HybridStitch

from .aids import ORACLE, RANDOM
from .variants import HYBRID, PAPER, SMALL, SRDIFFUSION, T_STITCH, Variant, large_at

CONTROL_STEPS = (5 / 7, 4 / 7, 3 / 7, 5 / 14, 2 / 7, 3 / 14)
"""Shares of the recipe's steps that the large model alone is drawn in: 20, 16, 12, 10, 8 and 6 of 28."""
RESIDUAL = 2.0


def controls(steps: int) -> list[Variant]:
    """The large model alone in fewer steps, of so many."""
    return [
        large_at(fewer) for fewer in sorted({max(1, round(share * steps)) for share in CONTROL_STEPS}, reverse=True)
    ]


def srdiffusion(large: int, steps: int, residual: float | str = "off") -> Variant:
    """Large, then small."""
    carried = "" if residual == "off" else f" r{residual:g}"
    settings = {"large_steps": large, "steps": steps, "residual": residual}
    return SRDIFFUSION.but(f"srdiffusion {large}/{steps}{carried}", **settings)


def t_stitch(large: int, steps: int) -> Variant:
    """Small, then large."""
    return T_STITCH.but(f"t-stitch {large}/{steps}", large_steps=large, steps=steps)


def hybrid(large: int, masked: int, steps: int, **settings: Any) -> Variant:
    """Large, then both, then small: as the paper has it but for these settings and the recipe's mask ratio."""
    said = "".join(f" {_short(name)}{value}" for name, value in settings.items())
    every = {**PAPER, **settings}
    return HYBRID.but(
        f"hybrid {large}+{masked}/{steps}{said}", large_steps=large, hybrid_steps=masked, steps=steps, **every
    )


def held(large: int, masked: int, steps: int, **settings: Any) -> Variant:
    """The same, but what is not refined is held, and chosen by its change; the small model draws what is left."""
    found = hybrid(large, masked, steps, **settings)
    return found.but(found.name.replace("hybrid", "held", 1), sketch="held", score="change")


def _short(setting: str) -> str:
    shorts = {"mask_ratio": "m", "refresh_every": "f", "residual": "r", "grid": "g"}
    return shorts.get(setting, f"{setting} ")


def methods(steps: int) -> list[Variant]:
    """Every method as a curve over its settings and steps; stage ends in proportion to the recipe's steps."""

    def part(share: float, of: int = steps) -> int:
        return max(1, round(share * of))

    few, fewer, fewest = part(3 / 7), part(5 / 14), part(2 / 7)  # 12, 10 and 8 of 28
    on = {"grid": steps}
    found = [
        SMALL,
        *(large_at(part(share)).but(f"large@{part(share)} g{steps}", **on) for share in (1 / 2, 5 / 14, 2 / 7, 3 / 14)),
        *(srdiffusion(part(5 / 14), steps, residual) for residual in ("off", RESIDUAL)),
        srdiffusion(part(0.6, fewer), fewer, RESIDUAL),
        srdiffusion(part(0.6, fewest), fewest, RESIDUAL),
        t_stitch(part(4 / 7), steps),
        t_stitch(part(2 / 3, few), few),
        HYBRID.but("hybrid, the recipe's"),
        hybrid(part(3 / 14), part(2 / 7), steps),
        hybrid(part(3 / 14), part(2 / 7), steps, residual=3.0),
        hybrid(part(0.6, fewer), part(0.2, fewer), fewer, residual=1.0),
        hybrid(part(0.6, fewest), 1, fewest, residual=1.0),
        hybrid(part(0.7, fewer), part(0.2, fewer), fewer, residual=1.0, **on),
        *_held(steps),
    ]
    return list({variant.name: variant for variant in found}.values())  # few steps leave few stage ends


def _held(steps: int) -> list[Variant]:
    """With held tokens from twice to four times as fast as all steps, and with the small model for the last step."""
    found = []
    for large, count, settings in [
        (11, 16, {"refresh_every": 1}),
        (5, 12, {"refresh_every": 1}),
        (5, 10, {"refresh_every": 1}),
        (5, 10, {"refresh_every": 2, "mask_ratio": 0.15}),
    ]:
        few = max(3, round(count / 28 * steps))
        kept = max(2, round(large / count * few))
        found.append(held(kept, few - kept, few, **settings, grid=steps))
    few = max(4, round(3 / 7 * steps))
    kept = max(2, round(5 / 12 * few))
    found.append(held(kept, few - kept - 1, few, refresh_every=1, residual=1.0, grid=steps))
    return found


def _scores(steps: int) -> list[Variant]:
    return [
        HYBRID.but("score gap", score="gap"),
        HYBRID.but("score change", score="change"),
        HYBRID.but("by chance", aid=RANDOM),
        HYBRID.but("by the end", aid=ORACLE),
    ]


def _ends(steps: int) -> list[Variant]:
    ends = [
        (round(large * steps), round(masked * steps))
        for large in (1 / 14, 1 / 7, 3 / 14, 2 / 7, 5 / 14)
        for masked in (1 / 7, 2 / 7, 3 / 7)
    ]
    return [hybrid(max(1, large), masked, steps) for large, masked in ends]


def _residuals(steps: int) -> list[Variant]:
    found: list[Variant] = []
    for exponent in ("off", 0.5, 1.0, 2.0, 3.0, 4.0):
        found.append(HYBRID.but(f"hybrid, residual {exponent}", residual=exponent))
        found.append(srdiffusion(round(5 / 14 * steps), steps, exponent).but(f"srdiffusion, residual {exponent}"))
    return found


def _grid(steps: int) -> list[Variant]:
    """Fewer steps on the grid of all of them; of two models evenly spaced too, as the controls are."""
    few = max(2, round(5 / 14 * steps))  # 10 of 28
    fewer = sorted({max(1, round(share * steps)) for share in (1 / 2, 5 / 14, 2 / 7)}, reverse=True)
    found = [large_at(count).but(f"large@{count} g{steps}", grid=steps) for count in fewer]
    large, masked = max(1, round(0.7 * few)), max(1, round(0.2 * few))
    for grid in (0, steps):
        found.append(hybrid(large, masked, few, residual=1.0, grid=grid))
        found.append(srdiffusion(large, few, 1.0).but(f"srdiffusion {large}/{few} r1 g{grid}", grid=grid))
    return found


ABLATIONS: dict[str, Callable[[int], list[Variant]]] = {
    "score": _scores,
    "mask-ratio": lambda steps: [
        HYBRID.but(f"mask {share}", mask_ratio=share) for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    ],
    "stage-ends": _ends,
    "refresh": lambda steps: [HYBRID.but(f"refresh every {every}", refresh_every=every) for every in (0, 1, 2, 4)],
    "residual": _residuals,
    "grid": _grid,
    "steps": lambda steps: [
        HYBRID.but(f"hybrid, {fewer} steps", steps=fewer)
        for fewer in (steps, *(variant.settings["steps"] for variant in controls(steps)))
    ],
}
"""By name, of the recipe's number of steps; all else is as the recipe has it."""


def drawable(pipe: HybridStitch, variants: Sequence[Variant]) -> tuple[list[Variant], list[str]]:
    """Those that the engines take, and of the others why not.

    Raises:
        HybridStitchError: none of them.
    """
    taken, refused = [], []
    for variant in variants:
        try:
            pipe.requests.batches(pipe.resolve(["a"], **variant.settings))
            taken.append(variant)
        except HybridStitchError as error:
            refused.append(f"{variant.name}: {error}")
    if not taken:
        raise HybridStitchError(refused[0])
    return taken, refused
