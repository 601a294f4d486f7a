"""What is compared: a method with its settings, under the name that tables, plots and JSON call it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hybridstitch.method.settings import LATER

LARGE_ON_GRID = "large on a grid"


@dataclass(frozen=True)
class Variant:
    """One way to draw: a method with its settings.

    name: such as large, large@12, srdiffusion, hybrid@0.3, hybrid-paper@0.3.
    settings: keyword arguments of `HybridStitch.__call__`; what they leave out is the recipe's.
    aid: what no setting can do, for comparison's sake: see `aids`.
    """

    name: str
    settings: Mapping[str, Any]
    aid: str | None = None

    @property
    def method(self) -> str:
        """Its method's name; "hybrid" where it is the recipe's default."""
        return str(self.settings["method"])

    @property
    def curve(self) -> str:
        """What it is a point of: its method; large on a grid and hybrid with held tokens have their own."""
        if self.method == "large" and self.settings.get("grid"):
            return LARGE_ON_GRID
        return "hybrid, held" if self.settings.get("sketch") == "held" else self.method

    def but(self, name: str | None = None, aid: str | None = None, **settings: Any) -> Variant:
        """The same with these settings changed, and perhaps another name."""
        return replace(self, name=name or self.name, aid=aid or self.aid, settings={**self.settings, **settings})


LARGE = Variant("large", {"method": "large"})
SMALL = Variant("small", {"method": "small"})
SRDIFFUSION = Variant("srdiffusion", {"method": "srdiffusion"})
T_STITCH = Variant("t-stitch", {"method": "t-stitch"})
HYBRID = Variant("hybrid", {"method": "hybrid"})
"""HybridStitch as the recipe has it."""
PAPER = {"score": "gap", "residual": "off", "refresh_every": 0, "sketch": "small", "grid": 0, **LATER}
"""HybridStitch's settings as the paper has them. Steps, stage ends and the mask ratio are not among them."""


def large_at(steps: int) -> Variant:
    """The large model alone in so many steps: what every method has to beat in the same time."""
    return LARGE.but(f"large@{steps}", steps=steps)


def hybrid_at(ratio: float) -> Variant:
    """HybridStitch with another share of the tokens, 0 to 1, and all else as the recipe has it."""
    return HYBRID.but(f"hybrid@{ratio:g}", mask_ratio=ratio)


def paper_at(ratio: float, steps: int) -> Variant:
    """HybridStitch as the paper has it, with 3 of 14 steps large and 4 of 14 hybrid."""
    large = max(1, round(3 / 14 * steps))
    lengths = {"large_steps": large, "hybrid_steps": min(steps - large, round(2 / 7 * steps))}
    return HYBRID.but(f"hybrid-paper@{ratio:g}", steps=steps, mask_ratio=ratio, **lengths, **PAPER)


def in_steps(variant: Variant, steps: int) -> Variant:
    """The same method in another number of steps; stage ends that the recipe gives scale in proportion."""
    return variant.but(f"{variant.name}, {steps} steps", steps=steps)
