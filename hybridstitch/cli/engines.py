"""`hybridstitch-trt engines list|prune`: what is built, and the removal of what can no longer be used."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .arguments import place

if TYPE_CHECKING:
    from hybridstitch.engines.store.inventory import Entry


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "engines", help="list what is built, or remove what is out of date", description="Look after built engines."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    shown = actions.add_parser("list", help="list every engine", description="List every engine below a folder.")
    shown.set_defaults(call=list_engines)
    pruned = actions.add_parser(
        "prune",
        help="remove engines of other versions",
        description="Remove engines that another version of this package or of their backend built: they cannot be "
        "used any more. Nothing else is touched.",
    )
    pruned.set_defaults(call=prune_engines)
    pruned.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    for action in (shown, pruned):
        action.add_argument("--dir", type=place, default="build", metavar="DIR", help="where to look (default: build)")
        action.add_argument("--json", action="store_true", help="one JSON report on stdout")


def list_engines(arguments: argparse.Namespace) -> None:
    from hybridstitch.engines.store.inventory import inventory

    _show(inventory(Path(arguments.dir)), arguments.json)


def prune_engines(arguments: argparse.Namespace) -> None:
    from hybridstitch.engines.store.inventory import prune

    removed = prune(Path(arguments.dir), dry_run=arguments.dry_run)
    if not arguments.json:
        freed = sum(entry.bytes for entry in removed) / 2**20
        verb = "would be removed" if arguments.dry_run else "removed"
        print(f"{len(removed)} engine{'' if len(removed) == 1 else 's'} {verb}, {freed:.1f} MiB")
    if removed or arguments.json:
        _show(removed, arguments.json)


def _show(entries: Sequence[Entry], as_json: bool) -> None:
    if as_json:
        print(json.dumps([_as_dict(entry) for entry in entries], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("folder", "engine", "MiB", "dtype", "built for", "built", "state"):
        table.add_column(column, justify="right" if column == "MiB" else "left")
    for entry in entries:
        made = entry.manifest
        target = "" if made is None else ", ".join(made.targets) or str(made.hardware)
        about = ("", target, "") if made is None else (made.dtype, target, made.built[:16].replace("T", " "))
        state = f"[yellow]{escape('; '.join(entry.problems))}[/]" if entry.problems else "[green]ok[/]"
        table.add_row(str(entry.folder), entry.component, f"{entry.bytes / 2**20:.1f}", *about, state)
    Console(highlight=False, soft_wrap=True).print(table)


def _as_dict(entry: Entry) -> dict[str, Any]:
    made = entry.manifest
    return {
        "folder": str(entry.folder),
        "component": entry.component,
        "bytes": entry.bytes,
        "problems": list(entry.problems),
        "manifest": None if made is None else made.as_json(),
    }
