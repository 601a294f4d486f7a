"""Closeness against seconds, as a picture: what was tried, what was timed, the control's curve and what was chosen."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from hybridstitch.evaluation.figure import write_figure
from hybridstitch.method.errors import HybridStitchError

from .tune import Tuned

COLOURS = {  # Okabe and Ito's, which the colour-blind tell apart
    "large": "#000000",
    "small": "#999999",
    "srdiffusion": "#0072B2",
    "t-stitch": "#009E73",
    "hybrid": "#D55E00",
}


def require_matplotlib() -> None:
    """
    Raises:
        HybridStitchError: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401  # an extra, and slow
    except ModuleNotFoundError:
        raise HybridStitchError("--plot needs matplotlib: pip install 'hybridstitch-trt[evaluation]'") from None


def draw_pareto(tuned: Tuned, path: Path) -> None:
    """Write the plot as a PNG.

    Raises:
        HybridStitchError: matplotlib is not there, or the file cannot be written; nothing half-written is left.
    """
    require_matplotlib()
    from matplotlib.figure import Figure  # an extra, and slow

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _draw_methods(axes, tuned)
    _draw_controls(axes, tuned)
    _draw_chosen(axes, tuned)
    facts = tuned.facts
    axes.set_xlabel("seconds a picture (faint: by the time model, at other captions)")
    axes.set_ylabel("PSNR to large in its full steps, dB (mean ± standard error)")
    axes.set_title(f"Pair {facts['pair']} on {facts['backend']}, for {facts['target']}", fontsize=10)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="best")
    try:
        write_figure(figure, path)
    except OSError as error:
        raise HybridStitchError(f"cannot write {path}: {error.strerror or error}") from None


def _draw_methods(axes: Any, tuned: Tuned) -> None:
    """What was tried, faint, and what was timed, of each method."""
    for method, colour in COLOURS.items():
        tried = [one for one in tuned.tried if one.candidate.method == method]
        places = [one.candidate.predicted for one in tried], [one.closeness for one in tried]
        axes.scatter(*places, s=9, color=colour, alpha=0.25, linewidths=0)
        timed = [one for one in tuned.finalists if one.candidate.method == method]
        if timed:
            axes.errorbar(
                [one.took for one in timed],
                [one.closeness for one in timed],
                yerr=[one.error if len(one.psnr) > 1 else 0.0 for one in timed],
                fmt="o",
                color=colour,
                capsize=2,
                label=method,
            )


def _draw_controls(axes: Any, tuned: Tuned) -> None:
    """The large model alone in fewer steps, as a line with the number of its steps."""
    for on_grid, line, label in ((False, "-", "control: large, fewer steps"), (True, "--", "large, on a grid")):
        large = [one for one in (*tuned.finalists, *tuned.curve) if one.candidate.method == "large"]
        large = [one for one in large if bool(one.candidate.parameters.schedule.grid) is on_grid]
        large.sort(key=lambda one: one.candidate.parameters.schedule.steps)
        if len(large) < 2:
            continue
        took, close = [one.took for one in large], [one.closeness for one in large]
        axes.plot(took, close, line, color=COLOURS["large"], label=label, zorder=1)
        for one in large:
            axes.annotate(
                str(one.candidate.parameters.schedule.steps),
                (one.took, one.closeness),
                textcoords="offset points",
                xytext=(4, -10),
                fontsize=7,
            )


def _draw_chosen(axes: Any, tuned: Tuned) -> None:
    """A ring around what was chosen, and a line at the large model's full steps."""
    chosen = tuned.verdict.chosen
    if chosen is not None:
        axes.scatter(
            [chosen.took], [chosen.closeness], s=240, facecolors="none", edgecolors="#CC79A7", linewidths=2.5,
            label="chosen", zorder=5,
        )  # fmt: skip
    full = median(tuned.reference)
    axes.axvline(full, color="#999999", linestyle=":", linewidth=1)
    axes.annotate(
        "large, full steps", (full, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=8,
        ha="right", va="bottom", color="#666666",
    )  # fmt: skip
