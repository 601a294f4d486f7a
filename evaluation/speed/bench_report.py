"""What `bench` measured, as data and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .calls import CallTime
from .diffusers_pipeline import Rival
from .timing import Measured

Quartiles = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """A method with its settings, beside the large model.

    parameters: its settings (`SamplingParameters.as_dict`). closeness: PSNR to the large model's own picture in dB, one
    number a case; empty for that model itself. overheads: of each picture, the share of the run in which no engine ran.
    speedups: over large, of each picture. same_as: the row with the same parameters, and so the
    same figures.
    control: the row of the large model alone that takes the time nearest to this one's.
    """

    name: str
    parameters: Mapping[str, Any]
    measured: Measured
    speedup: float
    speedups: tuple[float, ...]
    overheads: tuple[float, ...]
    closeness: tuple[float, ...] = ()
    control: str | None = None
    same_as: str | None = None

    @property
    def psnr(self) -> float | None:
        """The mean over cases."""
        return float(np.mean(self.closeness)) if self.closeness else None

    @property
    def psnr_error(self) -> float | None:
        """The standard error of that mean; None for fewer than two cases."""
        if len(self.closeness) < 2:
            return None
        return float(np.std(self.closeness, ddof=1) / len(self.closeness) ** 0.5)

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": _rounded(self.measured.median),
            "seconds_quartiles": _rounded(self.measured.quartiles),
            "speedup": _rounded(self.speedup),
            "speedup_quartiles": _rounded(quartiles(self.speedups)),
            "overhead": _rounded(self.measured.overhead),
            "overhead_quartiles": _rounded(quartiles(self.overheads)),
            "psnr_to_large_db": _rounded(self.psnr),
            "psnr_standard_error_db": _rounded(self.psnr_error),
            "psnr_of_each_db": _rounded(self.closeness),
            "stages": {stage: _rounded(seconds) for stage, seconds in self.measured.stages.items()},
            "control": self.control,
            "same_as": self.same_as,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True)
class MaskedCall:
    """A call of the large engine on some of the tokens.

    tokens: M. ratio: M / N, the linear ideal. share: its seconds as a share of a full call's. operations: its
    floating-point operations likewise; None where the checkpoint is not there to count them.
    """

    tokens: int
    ratio: float
    time: CallTime
    share: float
    share_quartiles: Quartiles
    operations: float | None

    @property
    def above_operations(self) -> float | None:
        """Its share of the seconds over its share of the operations: 1 wastes nothing."""
        return None if self.operations is None else self.share / self.operations

    def as_dict(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "ratio": _rounded(self.ratio),
            "share_of_full": _rounded(self.share),
            "share_of_full_quartiles": _rounded(self.share_quartiles),
            "flops_share": _rounded(self.operations),
            "seconds": _rounded(self.time.median, 7),
        }


@dataclass(frozen=True)
class BenchReport:
    """All of it. about: pair, backend, device, size, steps, guidance, repetitions and cases.

    circumstances: machine, versions and command. recipe_row: the name of HybridStitch as the recipe has it.
    notes: what could not be measured, a line each.
    """

    about: Mapping[str, Any]
    circumstances: Mapping[str, Any]
    rows: Sequence[Row]
    recipe_row: str
    masked: Sequence[MaskedCall]
    engines: Sequence[CallTime]
    diffusers: Mapping[str, Rival] | None
    notes: Sequence[str] = field(default=())

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def large_at_fewer(self) -> Row:
        """The control of HybridStitch as the recipe has it."""
        return self.row(self.row(self.recipe_row).control or "large")

    def as_dict(self) -> dict[str, Any]:
        methods = {row.name: row.as_dict() for row in self.rows}
        fewer = self.large_at_fewer
        methods["large@fewer"] = {**fewer.as_dict(), "same_as": fewer.name}
        return {
            **self.circumstances,
            **self.about,
            "methods": methods,
            "masked_call": [call.as_dict() for call in self.masked],
            "engines": {
                call.name: {
                    "seconds": _rounded(call.median, 7),
                    "seconds_quartiles": _rounded(call.quartiles, 7),
                    "calls_per_second": _rounded(call.per_second, 2),
                }
                for call in self.engines
            },
            "diffusers": self._diffusers(),
            "notes": list(self.notes),
        }

    def _diffusers(self) -> dict[str, Any]:
        """Median seconds of eager and compile, null where it did not run; and all about them."""
        rivals = self.diffusers or {}
        figures: dict[str, Any] = {"eager": None, "compile": None, "large": None}
        for name, rival in rivals.items():
            figures[name] = _rounded(rival.median)
            figures[f"{name}_quartiles"] = _rounded(rival.quartiles)
            if rival.reason is not None:
                figures[f"{name}_reason"] = rival.reason
        if "compile" in rivals and rivals["compile"].seconds:
            figures["compile_first_seconds"] = _rounded(rivals["compile"].first)
        for name in ("eager", "compile"):
            if figures[name] and figures["large"]:
                figures[f"large_speedup_over_{name}"] = _rounded(figures[name] / figures["large"])
        return figures


def quartiles(values: Sequence[float]) -> Quartiles:
    """What a quarter, and three quarters, of the values stay below."""
    low, high = np.percentile(values, [25, 75])
    return float(low), float(high)


def _rounded(value: Any, digits: int = 4) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple):
        return [round(float(part), digits) for part in value]
    return round(float(value), digits)
