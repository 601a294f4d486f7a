"""`hybridstitch-trt tune`: find the schedule for a time, or for a closeness."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import whole
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.pairs.schedule_file import ScheduleFile, write_schedule

from .arguments import (
    DEFAULT_PAIR,
    Parser,
    add_backend,
    add_engines,
    add_overwrite,
    add_pair,
    add_threads,
    checked,
    number_over,
    place,
    size,
)
from .output import is_folder, require_free, require_writable
from .progress import showing
from .run import quiet

if TYPE_CHECKING:
    from hybridstitch.evaluation.tuning.tune import Tuned


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "tune",
        help="find the best schedule for a time or a closeness",
        description="Search every method, large with fewer steps included, for the schedule that is closest to the "
        "large model's own pictures in a time, or fastest at a closeness; write it as a file for run and serve.",
    )
    parser.set_defaults(call=tune)
    target = parser.add_argument_group("what for (one of them)").add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--speedup", type=number_over("speedup", 1, 1000), metavar="X", help="as many times as fast as large, at least"
    )
    target.add_argument(
        "--seconds", type=number_over("seconds", 0, 1e6), metavar="S", help="so many seconds a picture, at most"
    )
    target.add_argument(
        "--psnr", type=number_over("psnr", 0, 100), metavar="DB", help="so close to large in its full steps, at least"
    )

    how = parser.add_argument_group("how long, and on what")
    how.add_argument(
        "--minutes", type=number_over("minutes", 0, 1e5), default=20.0, metavar="M", help="at most (default: 20)"
    )
    how.add_argument(
        "--count",
        type=checked(int, partial(whole, "count", span=range(4, 10001))),
        default=24,
        metavar="N",
        help="captions: half for the search, half for the finalists (default: 24)",
    )
    how.add_argument("--prompts", type=place, metavar="FILE", help="captions of your own, one a line")
    how.add_argument("--size", type=size, metavar="WxH", help="of the pictures (default: the recipe's)")

    add_pair(parser)
    add_backend(parser)
    add_engines(parser)
    parser.add_argument("--device", metavar="NAME", help="such as cuda:1 (default: the CPU, or the backend's GPU)")
    add_threads(parser)

    out = parser.add_argument_group("where to")
    out.add_argument(
        "--out", type=place, default="schedule.toml", metavar="FILE", help="the schedule (default: schedule.toml)"
    )
    out.add_argument("--plot", type=place, metavar="FILE", help="also plot closeness against seconds, a .png file")
    out.add_argument(
        "--resume", type=place, metavar="FILE", help="go on from what was drawn (default: a new one, OUT.jsonl)"
    )
    add_overwrite(out)
    out.add_argument("--json", action="store_true", help="one JSON report on stdout instead of the table")


def tune(arguments: argparse.Namespace) -> None:
    """Check everything, load, search, write."""
    recipe = Recipe.load(arguments.pair or DEFAULT_PAIR)
    # A search that goes on writes its own schedule anew.
    resumed = arguments.resume is not None and Path(arguments.out).with_suffix(".jsonl") == Path(arguments.resume)
    out = _file("--out", arguments.out, ".toml", arguments.overwrite or resumed)
    plot = _file("--plot", arguments.plot, ".png", arguments.overwrite) if arguments.plot else None
    quiet()
    # Slow imports, after what can be refused without them.
    from hybridstitch.evaluation.speed.machine import circumstances
    from hybridstitch.evaluation.tuning.calibration import calibration_cases
    from hybridstitch.evaluation.tuning.journal import Journal
    from hybridstitch.evaluation.tuning.pareto import draw_pareto, require_matplotlib
    from hybridstitch.evaluation.tuning.search_session import SearchSession, journal_facts
    from hybridstitch.evaluation.tuning.tune import tune as search
    from hybridstitch.evaluation.tuning.verdict import Target
    from hybridstitch.runtime.pipeline import HybridStitch

    cases = calibration_cases(recipe.name, arguments.count, Path(arguments.prompts) if arguments.prompts else None)
    if plot is not None:
        require_matplotlib()
    path = Path(arguments.resume) if arguments.resume else out.with_suffix(".jsonl")
    with HybridStitch.load(
        arguments.pair or DEFAULT_PAIR,
        engines=arguments.engines,
        backend=arguments.backend,
        device=arguments.device,
        threads=arguments.threads,
    ) as pipe:
        size = arguments.size or recipe.defaults.size
        pipe.resolve([case.prompt for case in cases], size=size)  # refused before anything is drawn
        around = circumstances(["hybridstitch-trt", *_typed()], pipe.device)
        facts = journal_facts(pipe, cases, size, {**around["machine"], "threads": arguments.threads})
        journal = Journal.open(path, facts, resume=arguments.resume is not None)
        try:
            with showing("measuring", "pictures") as show:
                session = SearchSession(pipe, cases, size, journal, arguments.minutes, show)
                tuned = search(session, Target(arguments.seconds, arguments.speedup, arguments.psnr))
        except KeyboardInterrupt:
            print(f"what was drawn is kept: go on with --resume {shlex.quote(str(path))}", file=sys.stderr)
            raise
    facts = {**tuned.facts, "drawn": session.drawn, **around}
    write_schedule(ScheduleFile(out, tuned.method, tuned.settings, facts), "Written by hybridstitch-trt tune.")
    if plot is not None:
        draw_pareto(tuned, plot)
    if arguments.json:
        print(json.dumps(_report(tuned, facts, out, plot, path), indent=1))
    else:
        _print(tuned, [place for place in (out, plot, path) if place is not None])


def _typed() -> list[str]:
    return sys.argv[1:]


def _file(flag: str, text: str, suffix: str, overwrite: bool) -> Path:
    """A file that can be written; another is refused before anything is drawn."""
    path = Path(text)
    if path.suffix.lower() != suffix:
        raise HybridStitchError(f"{flag} {text}: it is a {suffix} file; name it {path.with_suffix(suffix)}")
    if not is_folder(path.parent):
        raise HybridStitchError(f"{flag} {text}: no such folder {path.parent}; make it first")
    if is_folder(path):
        raise HybridStitchError(f"{flag} {text} is a folder; name a file")
    require_writable(path.parent)
    if not overwrite:
        require_free(path, flag)
    return path


def _report(tuned: Tuned, facts: dict[str, Any], out: Path, plot: Path | None, journal: Path) -> dict[str, Any]:
    rows = [("finalist", one) for one in tuned.finalists] + [("control", one) for one in tuned.curve]
    return {
        "schedule": str(out),
        "plot": str(plot) if plot is not None else None,
        "drawn": str(journal),
        "method": tuned.method,
        "settings": dict(tuned.settings),
        "tuned": facts,
        "measured": [
            {
                "role": role,
                "name": one.candidate.name,
                "method": one.candidate.method,
                "settings": one.candidate.settings,
                "predicted": one.candidate.predicted,
                "seconds": one.seconds,
                "psnr_db": one.psnr,
            }
            for role, one in rows
        ],
    }


def _print(tuned: Tuned, paths: list[Path]) -> None:
    """The finalists, the closest first, the verdict, and where everything is."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("finalist", overflow="fold")
    for column in ("seconds", "speed-up", "PSNR, dB"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in sorted(tuned.finalists, key=lambda finalist: -finalist.closeness):
        mark = "*" if one is tuned.verdict.chosen else ""
        error = f" ± {one.error:.1f}" if len(one.psnr) > 1 else ""
        faster = f"{one.speedup(tuned.reference):.2f}x"
        table.add_row(mark, one.candidate.name, f"{one.took:.3f}", faster, f"{one.closeness:.1f}{error}")
    if tuned.finalists:
        console.print(table)
        console.print()
    console.print(tuned.facts["found"], markup=False)
    for path in paths:
        console.print(str(path), markup=False, soft_wrap=True)
