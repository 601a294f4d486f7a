"""`hybridstitch-trt verify`: built engines against the checkpoints that they came from."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .arguments import DEFAULT_PAIR, Parser, add_backend, add_engines, add_pair, add_seed, add_threads, place
from .progress import showing
from .run import quiet

if TYPE_CHECKING:
    from hybridstitch.verify.report import ProfileReport, Report
    from hybridstitch.verify.stages import StageReport

OK, OFF = "[green]ok[/]", "[bold red]off[/]"


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "verify",
        help="compare built engines with PyTorch",
        description="Run every engine and PyTorch on the same inputs, at the smallest, typical and largest lengths of "
        "each profile and between them, then a short run of each stage. Exit code 1 when something is off.",
    )
    parser.set_defaults(call=verify)
    add_pair(parser)
    add_backend(parser)
    add_engines(parser)
    parser.add_argument(
        "--component", action="append", metavar="NAME", help="repeatable; only these, and no stages (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="two lengths for each profile instead of seven")
    parser.add_argument(
        "--save-failures",
        type=place,
        metavar="DIR",
        help="keep each call that is off there: inputs, outputs and the polygraphy command that repeats it",
    )
    add_seed(parser, 0, "of all noise")
    add_threads(parser)
    parser.add_argument("--json", action="store_true", help="one JSON report on stdout instead of the table")


def verify(arguments: argparse.Namespace) -> int:
    """Compare and report. Returns the exit code: 0 when all is right, 1 when something is off."""
    quiet()
    from hybridstitch.verify.verify_pair import verify_pair  # slow imports

    with showing("loading") as show:
        report = verify_pair(
            arguments.pair or DEFAULT_PAIR,
            engines=arguments.engines,
            backend=arguments.backend,
            components=arguments.component or (),
            quick=arguments.quick,
            threads=arguments.threads,
            seed=arguments.seed,
            save_failures=arguments.save_failures,
            progress=show,
        )
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        _print(report, arguments.save_failures)
    return 0 if report.ok else 1


def _print(report: Report, save_failures: str | None) -> None:
    """The tables, every failure, what was saved of them and the verdict.

    A file or a pipe has no width: lines there are as long as they are.
    """
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    title = f"engines of pair {report.pair} for {report.backend} against PyTorch on {report.device}"
    console.print(f"[bold]{escape(title)}[/]")
    console.print(_engine_table(report.profiles))
    if report.stages:
        console.print()
        console.print(_stage_table(report.stages))
    console.print()
    for failure in report.failures:
        console.print(f"[red]off[/]  {escape(failure)}")
    for folder in report.saved:
        console.print(f"saved  {escape(str(folder))}")
    if report.unsaved:
        console.print(f"[bold red]not saved[/]  {escape(report.unsaved)}")
    if report.advice:
        console.print(escape(report.advice))
    nothing_saved = save_failures is not None and not report.saved and not report.unsaved
    console.print(_verdict(report) + ("; nothing was saved: no call is off" if nothing_saved else ""))


def _engine_table(profiles: tuple[ProfileReport, ...]) -> Table:
    """A row for each component and profile, below the bounds that they must keep to."""
    table = _table("", "profile", "worst", "relative L2", "1 - cosine", "worst row", "seconds", "")
    shown, bounds = "", None
    for row in profiles:
        if row.bounds != bounds:
            bounds = row.bounds
            limits = _number(bounds.relative_l2), _number(1 - bounds.cosine), _number(bounds.worst_row)
            table.add_row(row.dtype, "", "at most", *limits, style="dim")
        _, comparison = row.worst or (None, None)
        table.add_row(
            "" if row.component == shown else row.component,
            escape(row.profile),
            comparison.output if comparison else "",
            _number(comparison and comparison.relative_l2),
            _number(comparison and comparison.error_of_cosine),
            _number(comparison and comparison.worst_row),
            f"{row.seconds:.2f}",
            OFF if row.failures else OK,
        )
        shown = row.component
    return table


def _stage_table(stages: tuple[StageReport, ...]) -> Table:
    """A row for each stage's final tokens, below the bounds."""
    table = _table("", "steps", "", "relative L2", "worst row", "same mask", "seconds", "")
    bounds = stages[0].bounds
    limits = _number(bounds.relative_l2), _number(bounds.worst_row), f"least {_percent(stages[0].least_same_mask)}"
    table.add_row("", "", "at most", *limits, style="dim")
    for stage in stages:
        table.add_row(
            f"{stage.stage} stage",
            str(stage.steps),
            "tokens",
            _number(stage.tokens.relative_l2),
            _number(stage.tokens.worst_row),
            _percent(stage.same_mask),
            f"{stage.seconds:.2f}",
            OFF if stage.failures else OK,
        )
    return table


def _table(*columns: str) -> Table:
    """The first three columns are words, the others numbers."""
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < 3 else "right", no_wrap=True)
    return table


def _verdict(report: Report) -> str:
    calls = sum(len(profile.cases) for profile in report.profiles)
    done = f"{calls} calls and {len(report.stages)} stages in {report.seconds:.0f} s"
    worst = report.worst
    nearest = ""
    if worst:
        profile, case, comparison = worst
        nearest = f"; worst: {profile.component}, {case}, {comparison.output}, {comparison.numbers()}"
    if report.ok:
        return f"[green]all right[/]: {done}{escape(nearest)}"
    return f"[bold red]{len(report.failures)} off[/]: {done}{escape(nearest)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}".replace("%", " %")
