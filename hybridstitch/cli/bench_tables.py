"""What `bench` measured, as tables of at most 80 columns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hybridstitch.evaluation.speed.bench_report import BenchReport, MaskedCall, Row
from hybridstitch.evaluation.speed.calls import CallTime
from hybridstitch.evaluation.speed.diffusers_pipeline import Rival


def print_report(report: BenchReport) -> None:
    """Every table, and what could not be measured.

    A file or a pipe has no width: lines there are as long as they are.
    """
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    about = report.about
    pictures = f"{len(about['cases'])} prompts, {about['repetitions']} times"
    console.print(
        f"[bold]pair {escape(about['pair'])} on {about['backend']}, {about['size']}, guidance {about['guidance']:g}, "
        f"{pictures}[/]"
    )
    console.print(methods_table(report))
    console.print()
    console.print(stages_table(report))
    console.print()
    console.print(masked_table(report.masked))
    console.print()
    console.print(engines_table(report.engines))
    if report.diffusers is not None:
        console.print()
        console.print(diffusers_table(report.diffusers))
        for rival in report.diffusers.values():
            if rival.reason is not None:
                console.print(f"diffusers, {rival.name}, could not run: {escape(rival.reason)}")
    for note in report.notes:
        console.print(escape(note))


def methods_table(report: BenchReport) -> Table:
    """Seconds, closeness and control of every row: in all steps, in fewer, and the large model alone."""
    table = _table("", "seconds", "quartiles", "speed-up", "PSNR, dB", "as long takes", "overhead")
    for title, rows in _groups(report):
        table.add_section()
        table.add_row(title, style="dim")
        for row in rows:
            control = report.row(row.control) if row.control else None
            table.add_row(
                _short(row),
                _seconds(row.measured.median),
                _range(row.measured.quartiles),
                f"{row.speedup:.2f}x",
                _decibels(row.psnr, row.psnr_error),
                f"{control.name} {_decibels(control.psnr)}" if control else "",
                f"{row.measured.overhead:.1%}",
                style="bold" if row.name == report.recipe_row else "",
            )
    return table


def stages_table(report: BenchReport) -> Table:
    """Where the seconds of each method went."""
    names = list(dict.fromkeys(stage for row in report.rows for stage in row.measured.stages))
    order = sorted(names, key=["text", "large", "hybrid", "small", "decode"].index)
    table = _table("seconds of the stage", *order)
    for row in _groups(report)[0][1]:
        stages = row.measured.stages
        table.add_row(_short(row), *(_seconds(stages[name]) if name in stages else "" for name in order))
    return table


def masked_table(calls: Sequence[MaskedCall]) -> Table:
    """A masked call beside a full one, the linear ideal M / N and its operations."""
    table = _table("masked call, M", "M / N", "operations", "seconds", "quartiles", "seconds / operations")
    for call in calls:
        above = call.above_operations
        table.add_row(
            str(call.tokens),
            f"{call.ratio:.3f}",
            "-" if call.operations is None else f"{call.operations:.3f}",
            f"{call.share:.3f}",
            "{:.3f}-{:.3f}".format(*call.share_quartiles),
            "-" if above is None else f"{above:.2f}",
        )
    return table


def engines_table(calls: Sequence[CallTime]) -> Table:
    """One call of each engine, as a run of one picture makes it."""
    table = _table("engine", "rows", "calls / s", "ms a call", "quartiles")
    for call in calls:
        low, high = (1000 * seconds for seconds in call.quartiles)
        table.add_row(
            call.name,
            str(call.lengths["B"]),
            f"{call.per_second:.0f}" if call.per_second >= 100 else f"{call.per_second:.1f}",
            f"{1000 * call.median:.2f}",
            f"{low:.2f}-{high:.2f}",
        )
    return table


def diffusers_table(rivals: Mapping[str, Rival]) -> Table:
    """The large model alone, in diffusers and here, picture by picture in turns."""
    ours = rivals["large"].median if "large" in rivals else None
    table = _table("large model alone", "seconds", "quartiles", "large is faster", "compiling, s")
    words = {"large": "large, here", "eager": "diffusers, eager", "compile": "diffusers, torch.compile"}
    for rival in rivals.values():
        middle, spread = rival.median, rival.quartiles
        table.add_row(
            words[rival.name],
            "-" if middle is None else _seconds(middle),
            "-" if spread is None else _range(spread),
            "" if middle is None or ours is None or rival.name == "large" else f"{middle / ours:.2f}x",
            f"{rival.first:.0f}" if rival.name == "compile" and rival.seconds else "",
        )
    return table


def _groups(report: BenchReport) -> list[tuple[str, list[Row]]]:
    """Rows of all steps, of fewer, and of the large model alone in other numbers of steps."""
    steps = report.about["steps"]
    controls = [row for row in report.rows if row.parameters["method"] == "large" and row.parameters["steps"] < steps]
    others = [row for row in report.rows if row not in controls]
    fewer = [row for row in others if row.parameters["steps"] < steps]
    groups = [(f"{steps} steps", [row for row in others if row not in fewer])]
    if fewer:
        groups.append((f"{fewer[0].parameters['steps']} steps", fewer))
    if controls:
        groups.append(("large alone", sorted(controls, key=lambda row: -row.parameters["steps"])))
    return groups


def _table(*columns: str) -> Table:
    """The first column is words, the others numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table


def _short(row: Row) -> str:
    """Its name without the steps, which stand above."""
    return row.name.partition(",")[0]


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _range(pair: tuple[float, float]) -> str:
    return f"{_seconds(pair[0])}-{_seconds(pair[1])}"


def _decibels(value: float | None, error: float | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" + (f" ± {error:.1f}" if error is not None else "")
