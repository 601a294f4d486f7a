"""The main picture: quality against measured time, or operations; every method is a curve, large alone among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridstitch.evaluation.figure import figure

from .bootstrap import Interval
from .eval_report import EvalRow

LOOKS = {
    "large": ("large alone, fewer steps", "0.25", "o"),
    "large on a grid": ("large alone, fewer steps of its grid", "0.6", "P"),
    "srdiffusion": ("SRDiffusion", "tab:blue", "s"),
    "t-stitch": ("T-Stitch", "tab:green", "^"),
    "hybrid": ("HybridStitch", "tab:red", "D"),
    "hybrid, held": ("HybridStitch, held tokens", "tab:orange", "*"),
    "small": ("small alone", "tab:purple", "v"),
}
"""Of each curve its name, colour and marker."""


def plot_quality(rows: Sequence[EvalRow], title: str, folder: Path) -> list[Path]:
    """Write closeness.png and, where a judge was asked, attributes.png into a folder; returns their paths.

    Raises:
        HybridStitchError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    paths = [folder / "closeness.png"]
    across = "seconds a picture" if rows[0].operations is None else "operations a picture, in the large model's steps"
    with figure(paths[0], f"Closeness to the large model ({title})", across, "PSNR, dB") as axes:
        _curves(axes, [(row, row.means["psnr"]) for row in rows if "psnr" in row.means])
    judged = [(row, row.all_right) for row in rows if row.all_right is not None]
    if judged:
        paths.append(folder / "attributes.png")
        with figure(paths[1], f"Everything in a picture right ({title})", across, "share") as axes:
            _curves(axes, judged)
            axes.set_ylim(bottom=0)
    return paths


def _curves(axes: Any, points: Sequence[tuple[EvalRow, Interval]]) -> None:
    for curve, (name, colour, marker) in LOOKS.items():
        some = sorted((point for point in points if point[0].variant.curve == curve), key=lambda at: at[0].cost)
        if not some:
            continue
        costs, means = [row.cost for row, _ in some], [value.mean for _, value in some]
        ends = [[value.mean - value.low for _, value in some], [value.high - value.mean for _, value in some]]
        axes.errorbar(
            costs, means, yerr=ends, fmt=marker, color=colour, ecolor=colour, elinewidth=0.8, ms=5, label=name
        )
        best = _frontier(list(zip(costs, means, strict=True)))
        axes.plot(*zip(*best, strict=True), color=colour, linewidth=1.2, alpha=0.7)
    axes.legend(frameon=False, ncol=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no faster one of the same method is better than."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept
