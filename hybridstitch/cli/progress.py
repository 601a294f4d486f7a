"""What a person sees while something long goes on, and after pictures were drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from hybridstitch.method.progress import OnProgress, Progress


@contextmanager
def showing(first: str, unit: str = "", *, kept: bool = False) -> Iterator[OnProgress]:
    """A bar on stderr; yields what to report to.

    first: what is done until something is reported. unit: what is counted. kept: it stays when all is done, in a file
    too; else it is only there while it moves, on a terminal.
    """
    columns = (_What(), BarColumn(bar_width=20), _Amount(unit), TimeRemainingColumn(table_column=Column(no_wrap=True)))
    console = Console(file=sys.stderr)
    shown = kept or console.is_terminal
    with Bar(*columns, console=console, transient=not kept, disable=not shown) as bar:
        task = bar.add_task(first, total=None)

        def report(now: Progress) -> None:
            if not now.total:
                bar.tasks[0].total = None  # update() takes None for no change
            bar.update(task, description=now.what, completed=now.done, total=now.total or None)

        yield report


class _What(ProgressColumn):
    """What is being done, cut where the line is too short: numbers are not."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.description:>28}", no_wrap=True, overflow="ellipsis")


class _Amount(ProgressColumn):
    """How much of how much, where that is known."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text()
        width = len(str(int(task.total)))
        return Text(f"{int(task.completed):{width}}/{int(task.total)} {self.unit}", style="progress.download")


def print_result(report: dict[str, Any]) -> None:
    """The pictures, and a table of where the time went."""
    console = Console(highlight=False, soft_wrap=True)
    parameters = report["pictures"][0]["parameters"]
    table = Table(title=_title(parameters, report), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("", "calls", "seconds", "share"):
        table.add_column(column, justify="left" if not column else "right")
    total = report["total"]
    for name, spent in report["stages"].items():
        _row(table, f"{name} stage" if name in ("large", "hybrid", "small") else name, spent, total)
    table.add_section()
    for name, spent in report["engines"].items():
        _row(table, f"{name} engine", spent, total, "dim")
    table.add_row("total", "", f"{total:.2f}", "100 %", style="bold")
    console.print(table)
    for picture in report["pictures"]:
        refined = f", {picture['mask_ratio']:.0%} of the tokens refined" if picture["mask_ratio"] is not None else ""
        console.print(f"{picture['path']}  (seed {picture['seed']}{refined})", markup=False)
        if picture["mask_path"]:
            console.print(f"{picture['mask_path']}", markup=False)


def _title(parameters: dict[str, Any], report: dict[str, Any]) -> str:
    steps, large, hybrid = parameters["steps"], parameters["large_steps"], parameters["hybrid_steps"]
    small = steps - large - hybrid
    order = [f"{large} large", f"{hybrid} hybrid", f"{small} small"]
    order = order[::-1] if parameters["method"] == "t-stitch" else order
    stages = ", ".join(stage for stage in order if not stage.startswith("0 "))
    return f"{parameters['method']}: {steps} steps ({stages}) on {report['backend']}"


def _row(table: Table, name: str, spent: dict[str, Any], total: float, style: str = "") -> None:
    share = spent["seconds"] / total if total else 0.0
    table.add_row(name, str(spent["calls"]), f"{spent['seconds']:.2f}", f"{share:.0%}".replace("%", " %"), style=style)
