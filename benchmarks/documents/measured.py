"""What was measured (benchmarks/results), as the cells of a document's table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from benchmarks.machine import RESULTS

Row = Mapping[str, Any]
"""Of an evaluation: a variant over all captions (evaluation/quality/eval_report.py, EvalRow)."""


class NotMeasured(Exception):
    """A table asks for what no result holds; one line."""


@cache
def result(name: str) -> dict[str, Any]:
    """benchmarks/results/NAME.json."""
    path = RESULTS / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotMeasured(f"benchmarks/results/{path.name}: {error.strerror}") from None


def evaluated(name: str, variant: str) -> Row:
    """A variant's row of an evaluation."""
    for row in result(name)["rows"]:
        if row["variant"] == variant:
            return row
    raise NotMeasured(f"{name}.json has no variant {variant!r}")


def decibels(row: Row) -> str:
    """PSNR to the large model's own picture; nothing for the large model itself."""
    return f"{row['means']['psnr']['mean']:.1f}" if "psnr" in row["means"] else ""


def closeness(row: Row) -> str:
    return f"{decibels(row)} dB"


def speedup(row: Row) -> str:
    return f"{row['speedup']:.2f}x"


def both(row: Row) -> str:
    return f"{closeness(row)}, {speedup(row)}"


def right(row: Row) -> str:
    return f"{100 * row['all_right']['mean']:.0f} %"


def beside(interval: Mapping[str, float] | None, scale: float = 1, digits: int = 1) -> str:
    """A paired difference, and half of its interval; nothing where there was nothing to compare with."""
    if interval is None:
        return ""
    return f"{scale * interval['mean']:+.{digits}f} ± {scale * (interval['high'] - interval['low']) / 2:.{digits}f}"


def better(interval: Mapping[str, float] | None) -> bool:
    """Whether the whole interval is above 0."""
    return interval is not None and interval["low"] > 0


def bold(text: str, chosen: bool = True) -> str:
    return f"**{text}**" if chosen and text else text


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_line(header), f"{'|---' * len(header)}|\n", *map(_line, rows)]
    return "".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|\n"
