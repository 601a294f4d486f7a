"""What is compared: every method over its settings and steps, and one setting at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from hybridstitch.evaluation.variants import HYBRID, LARGE, PAPER, SMALL, SRDIFFUSION, T_STITCH, Variant, large_at
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import OFF, Switch
from hybridstitch.runtime.pipeline import HybridStitch

from .baselines import ALONE, ORACLE, RANDOM

CONTROL_STEPS = (5 / 7, 4 / 7, 3 / 7, 5 / 14, 2 / 7, 3 / 14)
"""Shares of the recipe's steps that the large model alone is drawn in: 20, 16, 12, 10, 8 and 6 of 28."""
RESIDUAL = 2.0
ON = str(Switch.ON)
MOVING_ON = "moving-on"


def controls(steps: int, ablation: str | None = None) -> list[Variant]:
    """The large model alone in fewer steps, of so many; none for an ablation that has it on its grid instead."""
    if ablation == MOVING_ON:
        return []
    return [
        large_at(fewer) for fewer in sorted({max(1, round(share * steps)) for share in CONTROL_STEPS}, reverse=True)
    ]


def on_grid(few: int, steps: int) -> Variant:
    """The large model alone in a few steps of the grid of all."""
    return LARGE.but(f"large@{few} g{steps}", steps=few, grid=steps)


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
    sketched = hybrid(large, masked, steps, **settings)
    return sketched.but(sketched.name.replace("hybrid", "held", 1), sketch="held", score="change")


def _short(setting: str) -> str:
    shorts = {"mask_ratio": "m", "refresh_every": "f", "residual": "r", "grid": "g", "extrapolate": "e"}
    return shorts.get(setting, f"{setting} ")


def methods(steps: int) -> list[Variant]:
    """Every method as a curve over its settings and steps; stage ends in proportion to the recipe's steps."""

    def part(share: float, of: int = steps) -> int:
        return max(1, round(share * of))

    few, fewer, fewest = part(3 / 7), part(5 / 14), part(2 / 7)  # 12, 10 and 8 of 28
    variants = [
        SMALL,
        *(on_grid(part(share), steps) for share in (1 / 2, 5 / 14, 2 / 7, 3 / 14)),
        *(srdiffusion(part(5 / 14), steps, residual) for residual in ("off", RESIDUAL)),
        srdiffusion(part(0.6, fewer), fewer, RESIDUAL),
        srdiffusion(part(0.6, fewest), fewest, RESIDUAL),
        srdiffusion(part(1 / 2), steps),  # as costly as the next: half of the steps are large in both
        t_stitch(part(1 / 2), steps),
        t_stitch(part(4 / 7), steps),
        t_stitch(part(2 / 3, few), few),
        HYBRID.but("hybrid, the recipe's"),
        hybrid(part(3 / 14), part(2 / 7), steps),
        hybrid(part(3 / 14), part(2 / 7), steps, residual=3.0),
        hybrid(part(0.6, fewer), part(0.2, fewer), fewer, residual=1.0),
        hybrid(part(0.6, fewest), 1, fewest, residual=1.0),
        hybrid(part(0.7, fewer), part(0.2, fewer), fewer, residual=1.0, grid=steps),
        *_held(steps),
    ]
    return list({variant.name: variant for variant in variants}.values())  # few steps leave few stage ends


def _held(steps: int) -> list[Variant]:
    """With held tokens from twice to four times as fast as all steps, and with the small model for the last step."""
    variants = []
    for large, count, settings in [
        (11, 16, {"refresh_every": 1}),
        (5, 12, {"refresh_every": 1}),
        (5, 10, {"refresh_every": 1}),
        (5, 10, {"refresh_every": 2, "mask_ratio": 0.15}),
    ]:
        few = max(3, round(count / 28 * steps))
        kept = max(2, round(large / count * few))
        variants.append(held(kept, few - kept, few, **settings, grid=steps))
    few = max(4, round(3 / 7 * steps))
    kept = max(2, round(5 / 12 * few))
    variants.append(held(kept, few - kept - 1, few, refresh_every=1, residual=1.0, grid=steps))
    return variants


def _scores(steps: int) -> list[Variant]:
    return [
        HYBRID.but("score gap", score="gap"),
        HYBRID.but("score change", score="change"),
        HYBRID.but("by chance", aid=RANDOM),
        HYBRID.but("by the end", aid=ORACLE),
    ]


def _keys(steps: int) -> list[Variant]:
    """With the keys and values of the tokens that are not refined, and without any."""
    paper = hybrid(round(3 / 14 * steps), round(2 / 7 * steps), steps)
    return [
        HYBRID.but("frozen keys"),
        HYBRID.but("no keys", aid=ALONE),
        paper.but("the paper's, frozen keys"),
        paper.but("the paper's, no keys", aid=ALONE),
    ]


def _ends(steps: int) -> list[Variant]:
    """Stage ends of 12 of 28 steps on their grid, the rest held and sketched."""
    few = max(4, round(3 / 7 * steps))
    variants = []
    for large in sorted({max(2, round(share * few)) for share in (1 / 4, 5 / 12, 7 / 12, 3 / 4)}):
        for masked in sorted({few - large, max(1, (few - large) // 2), max(1, few - large - 1)}, reverse=True):
            variants.append(held(large, masked, few, refresh_every=1, residual=1.0, grid=steps))
            variants.append(hybrid(large, masked, few, residual=1.0, grid=steps))
    return variants


def _residuals(steps: int) -> list[Variant]:
    """Of all steps, where many are the small model's."""
    variants: list[Variant] = []
    for exponent in ("off", 0.5, 1.0, 2.0, 3.0, 4.0):
        sketched = hybrid(round(3 / 14 * steps), round(2 / 7 * steps), steps, residual=exponent)
        variants.append(sketched.but(f"hybrid, residual {exponent}"))
        variants.append(srdiffusion(round(5 / 14 * steps), steps, exponent).but(f"srdiffusion, residual {exponent}"))
    return variants


def _grid(steps: int) -> list[Variant]:
    """Fewer steps on the grid of all of them; of two models evenly spaced too, as the controls are."""
    few = max(2, round(5 / 14 * steps))  # 10 of 28
    fewer = sorted({max(1, round(share * steps)) for share in (1 / 2, 5 / 14, 2 / 7)}, reverse=True)
    variants = [on_grid(count, steps) for count in fewer]
    large, masked = max(1, round(0.7 * few)), max(1, round(0.2 * few))
    for grid in (0, steps):
        variants.append(hybrid(large, masked, few, residual=1.0, grid=grid))
        variants.append(srdiffusion(large, few, 1.0).but(f"srdiffusion {large}/{few} r1 g{grid}", grid=grid))
    return variants


def _sketches(steps: int) -> list[Variant]:
    """What the other tokens take, on the grid and evenly spaced."""
    few = max(4, round(3 / 7 * steps))
    large = max(2, round(5 / 12 * few))
    return [
        make(large, few - large, few, refresh_every=every, grid=grid)
        for make in (held, hybrid)
        for every in (0, 1, 2)
        for grid in (0, steps)
    ]


def _steps(steps: int) -> list[Variant]:
    fewer = sorted(
        {max(3, round(share * steps)) for share in (5 / 7, 4 / 7, 3 / 7, 5 / 14, 2 / 7, 3 / 14)}, reverse=True
    )
    return [HYBRID.but(f"hybrid, {count} steps", steps=count) for count in fewer]


def _moving_on(steps: int) -> list[Variant]:
    """Held tokens that move on and are corrected: either alone, how far, with which masks, and how often all are
    computed; stage ends and steps for the grid of `steps`, from 1.9 to 3 times as fast."""
    variants = []
    for large, count, ratio in ((5, 22, 0.15), (4, 16, 0.15), (5, 12, 0.3)):
        for part, correct in product((0.0, 0.5), (OFF, ON)):
            variants.append(_moved(large, count, steps, ratio, part, correct))
    variants += [_moved(5, 22, steps, 0.15, part) for part in (0.25, 0.75, 1.0)]
    for large, count in ((5, 26), (5, 22), (4, 18), (4, 14)):
        variants.append(_moved(large, count, steps, 0.0))
    others = [(5, 20, 0.15), (5, 20, 0.3), (5, 18, 0.5), (4, 14, 0.3)]
    variants += [_moved(large, count, steps, ratio) for large, count, ratio in others]
    variants.append(_moved(5, 24, steps, 0.15, full_after=2))
    variants += [_with_small_end(steps, part, correct) for part, correct in ((0.0, OFF), (0.5, ON))]
    variants += [on_grid(max(1, round(share / 28 * steps)), steps) for share in (16, 14, 12, 10, 8)]
    return list({variant.name: variant for variant in variants}.values())


def _moved(
    large: int, count: int, steps: int, ratio: float, part: float = 0.5, correct: str = ON, full_after: int = 1
) -> Variant:
    """Of 28 steps, so many: held to the end, after every `full_after` held steps a full one."""
    few = max(4, round(count / 28 * steps))
    kept = max(2, round(large / count * few))
    own = {"refresh_every": full_after, "mask_ratio": ratio, "grid": steps, "extrapolate": part, "correct": correct}
    return held(kept, few - kept, few, **own)


def _with_small_end(steps: int, part: float, correct: str) -> Variant:
    """12 of 28 steps, of which the small model makes the last."""
    few = max(4, round(3 / 7 * steps))
    kept = max(2, round(5 / 12 * few))
    own = {"refresh_every": 1, "mask_ratio": 0.3, "grid": steps, "extrapolate": part, "correct": correct}
    return held(kept, few - kept - 1, few, residual=1.0, **own)


ABLATIONS: dict[str, Callable[[int], list[Variant]]] = {
    "score": _scores,
    "keys": _keys,
    "mask-ratio": lambda steps: [
        HYBRID.but(f"mask {share}", mask_ratio=share) for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    ],
    "stage-ends": _ends,
    "refresh": lambda steps: [HYBRID.but(f"refresh every {every}", refresh_every=every) for every in (0, 1, 2, 4)],
    "residual": _residuals,
    "grid": _grid,
    "sketch": _sketches,
    "steps": _steps,
    MOVING_ON: _moving_on,
}
"""By name, of the recipe's number of steps; what a row does not name is as the recipe has it."""


def sketch_said(pipe: HybridStitch, variant: Variant) -> Variant:
    """The same variant, with the sketch among its settings where the recipe gives it: its curve goes by that."""
    if variant.method != "hybrid" or "sketch" in variant.settings:
        return variant
    (request,) = pipe.resolve(["a"], **variant.settings)
    return variant.but(sketch=str(request.parameters.sketch))


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
