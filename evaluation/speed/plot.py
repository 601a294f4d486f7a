"""The two pictures of `bench`: closeness against seconds, and what a masked call takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybridstitch.evaluation.figure import figure

from .bench_report import BenchReport, Row

CONTROL, FULL, SHORT = "0.35", "tab:blue", "tab:orange"
WIDE, HIGH = 9, 14
"""Pixels of a letter and of a line of the labels."""


PLOTS = ("closeness.png", "masked-call.png")


def plot_bench(report: BenchReport, folder: Path) -> list[Path]:
    """Write closeness.png and masked-call.png into a folder that is there; returns their paths.

    Raises:
        HybridStitchError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    paths = [folder / name for name in PLOTS]
    where = f"{report.about['pair']}, {report.about['backend']}, guidance {report.about['guidance']:g}"
    with figure(
        paths[0], f"Closeness against time ({where})", "seconds a picture", "PSNR to the large model, dB"
    ) as axes:
        _closeness(axes, report)
    with figure(paths[1], f"A masked call beside a full one ({where})", "M / N", "share of a full call") as axes:
        _masked(axes, report)
    return paths


def _closeness(axes: Any, report: BenchReport) -> None:
    steps = report.about["steps"]
    rows = [row for row in report.rows if row.closeness and row.same_as is None]
    control = sorted(
        (row for row in rows if row.parameters["method"] == "large"), key=lambda row: row.parameters["steps"]
    )
    rows = [row for row in rows if row not in control]
    labels = [(row, str(row.parameters["steps"]), CONTROL) for row in control]
    if control:
        axes.plot(*_points(control), "o-", color=CONTROL, label="large model alone, in so many steps", zorder=2)
    for colour, marker, full in ((FULL, "s", True), (SHORT, "^", False)):
        some = [row for row in rows if (row.parameters["steps"] == steps) is full]
        if some:
            errors, what = [row.psnr_error or 0.0 for row in some], f"{some[0].parameters['steps']} steps"
            axes.errorbar(*_points(some), yerr=errors, fmt=marker, color=colour, ecolor="0.75", label=what, zorder=3)
        labels += [(row, row.name.partition(",")[0], colour) for row in some]
    axes.axvline(report.row("large").measured.median, color="0.6", linestyle=":", label=f"large, {steps} steps")
    axes.legend(frameon=False)
    axes.margins(x=0.1)
    _label(axes, labels)


def _points(rows: list[Row]) -> tuple[list[float], list[float]]:
    return [row.measured.median for row in rows], [row.psnr or 0.0 for row in rows]


def _label(axes: Any, labels: list[tuple[Row, str, str]]) -> None:
    """Names right of their points, from the bottom up; one that would lie on another moves up."""
    axes.figure.canvas.draw()  # only now it is known where a point lies
    taken: list[tuple[float, float, float]] = []
    for row, text, colour in sorted(labels, key=lambda label: label[0].psnr or 0.0):
        x, y = axes.transData.transform((row.measured.median, row.psnr))
        width, lift = WIDE * len(text), 0.0
        while any(abs(y + lift - other) < HIGH and x < right and left < x + width for left, right, other in taken):
            lift += 1
        taken.append((x, x + width, y + lift))
        offset = (6, -3 + lift * 72 / axes.figure.dpi)
        where = row.measured.median, row.psnr
        axes.annotate(text, where, xytext=offset, textcoords="offset points", fontsize=8, color=colour)


def _masked(axes: Any, report: BenchReport) -> None:
    calls = report.masked
    axes.plot([0, 1], [0, 1], ":", color="0.5", label="linear ideal, M / N")
    counted = [(call.ratio, call.operations) for call in calls if call.operations is not None]
    if counted:
        axes.plot(*zip(*counted, (1.0, 1.0), strict=True), "--", color=CONTROL, label="share of the operations")
    shares = [call.share for call in calls]
    spread = [
        [call.share - call.share_quartiles[0] for call in calls],
        [call.share_quartiles[1] - call.share for call in calls],
    ]
    axes.errorbar(
        [call.ratio for call in calls],
        shares,
        yerr=spread,
        fmt="o-",
        color=FULL,
        capsize=2,
        label="share of the seconds",
    )
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.legend(frameon=False)
