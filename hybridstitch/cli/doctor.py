"""`hybridstitch-trt doctor`: what this machine has, and what each backend would need."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .arguments import place

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]note[/]", "missing": "[red]no[/]"}


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say what this machine has and what each backend needs",
        description="List Python, packages, GPUs, memory, disk and backends: what is there, and what is missing.",
    )
    parser.set_defaults(call=doctor)
    parser.add_argument(
        "--out", type=place, default="build", metavar="DIR", help="where engines would go (default: build)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON report on stdout")


def doctor(arguments: argparse.Namespace) -> None:
    """Print the findings. What is missing is no error: a machine without a GPU is a fine machine."""
    from hybridstitch.engines.doctor import examine

    from .build import version

    findings = examine(Path(arguments.out))
    if arguments.json:
        print(json.dumps({"version": version(), "findings": [asdict(finding) for finding in findings]}, indent=1))
        return
    table = Table(box=None, pad_edge=False, title=f"hybridstitch-trt {version()}", title_justify="left")
    for column in ("", "", "", ""):
        table.add_column(column)
    topic = ""
    for finding in findings:
        advice = f"\n[dim]{escape(finding.advice)}[/]" if finding.advice else ""
        shown = "" if finding.topic == topic else finding.topic
        table.add_row(f"[bold]{shown}[/]", MARKS[finding.state], finding.what, f"{escape(finding.found)}{advice}")
        topic = finding.topic
    Console(highlight=False).print(table)
