"""`hybridstitch-trt capacity`: how many replicas a rate of requests takes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hybridstitch.method.errors import HybridStitchError

from .arguments import Parser, add_seed, number_over, place

if TYPE_CHECKING:
    from hybridstitch.evaluation.capacity.model import Capacity
    from hybridstitch.evaluation.capacity.service_times import Workload

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "service-times.json"
"""In a checkout; an installed package has none."""


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "capacity",
        help="say how many replicas a rate of requests takes",
        description="From measured service times: how many replicas answer so many requests a second within so many "
        "seconds, by a queueing model and by a simulation of the same queue beside it.",
    )
    parser.set_defaults(call=capacity)
    parser.add_argument(
        "--rate", type=number_over("rate", 0, 1e5), required=True, metavar="R", help="requests a second, on average"
    )
    parser.add_argument(
        "--p95",
        type=number_over("p95", 0, 1e5),
        required=True,
        metavar="SECONDS",
        help="within which 95 %% of them are to be answered, their wait included",
    )
    parser.add_argument(
        "--service-times",
        type=place,
        metavar="FILE",
        help="seconds of single pictures by kind, JSON (default: what python -m benchmarks.service_times measured)",
    )
    mix = parser.add_argument_group("what is asked for (default: every kind as often)").add_mutually_exclusive_group()
    mix.add_argument("--mix", type=place, metavar="FILE", help="a .toml file of shares, NAME = 0.3 a line; sum: 1")
    mix.add_argument(
        "--share", type=_share, action="append", metavar="NAME=0.3", help="the same, here; once for each kind"
    )
    add_seed(parser, 0, "of the simulation")
    parser.add_argument("--json", action="store_true", help="one JSON report on stdout instead of the table")


def capacity(arguments: argparse.Namespace) -> None:
    """Read, reckon, show."""
    from hybridstitch.evaluation.capacity.model import plan_capacity
    from hybridstitch.evaluation.capacity.service_times import mixed, read_mix, read_service_times

    path = Path(arguments.service_times) if arguments.service_times else MEASURED
    if arguments.service_times is None and not path.exists():
        raise HybridStitchError(
            "no service times come along: give some with --service-times FILE (in a checkout, "
            "python -m benchmarks.service_times --save measures them)"
        )
    times, facts = read_service_times(path)
    shares = read_mix(Path(arguments.mix)) if arguments.mix else _shares(arguments.share)
    work = mixed(times, shares)
    plan = plan_capacity(work, arguments.rate, arguments.p95, seed=arguments.seed)
    if arguments.json:
        names = shares or {name: 1 / len(times) for name in times}
        print(json.dumps(_report(arguments, plan, work, names, path, facts), indent=1))
    else:
        _print(arguments, plan, work, path, facts)


def _share(text: str) -> tuple[str, float]:
    name, equals, share = text.rpartition("=")
    try:
        if name and equals:
            return name, float(share)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a share is NAME=0.3, not {text!r:.80}")


def _shares(given: list[tuple[str, float]] | None) -> dict[str, float] | None:
    if given is None:
        return None
    shares = dict(given)
    if len(shares) < len(given):
        names = [name for name, _ in given]
        twice = next(name for name in names if names.count(name) > 1)
        raise HybridStitchError(f"--share {twice} is given more than once")
    return shares


def _report(
    arguments: argparse.Namespace,
    plan: Capacity,
    work: Workload,
    shares: dict[str, float],
    path: Path,
    facts: dict[str, Any],
) -> dict[str, Any]:
    return {
        "rate": arguments.rate,
        "p95": arguments.p95,
        "seed": arguments.seed,
        "mix": shares,
        "service": {"mean": work.mean, "p95": work.quantile(0.95), "squared_variation": work.variation},
        "replicas": plan.replicas,
        "by_model": plan.by_model,
        "by_simulation": plan.by_simulation,
        "rows": [asdict(row) for row in plan.rows],
        "service_times": {"file": str(path), **{key: facts[key] for key in ("machine", "command") if key in facts}},
    }


def _print(arguments: argparse.Namespace, plan: Capacity, work: Workload, path: Path, facts: dict[str, Any]) -> None:
    console = Console(highlight=False)
    machine = facts.get("machine")
    where = f" on {machine.get('processor')}, cores: {machine.get('cores')}" if isinstance(machine, dict) else ""
    alone = f"{work.mean:.3g} s on average and {work.quantile(0.95):.3g} s at p95"
    head = f"A picture of this mix alone takes {alone}{where} ({path}).\n"
    console.print(head, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("replicas", "utilisation", "mean wait, s:\nmodel", "\nsimulated", "p95, s:\nmodel", "\nsimulated"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in plan.rows:
        table.add_row(
            "*" if row.replicas == plan.replicas else "",
            str(row.replicas),
            f"{row.utilisation:.0%}",
            f"{row.model.wait:.3f}",
            f"{row.simulation.wait:.3f}",
            f"{row.model.p95:.3f}",
            f"{row.simulation.p95:.3f} ± {row.simulation.error:.3f}",
        )
    console.print(table)
    told = f"{arguments.rate:g} requests a second with a p95 of {arguments.p95:g} s take {_replicas(plan.replicas)}"
    how = f"{plan.by_model} by the model, {plan.by_simulation} by the simulation"
    console.print(f"\n{told} ({how}).", markup=False, soft_wrap=True)


def _replicas(count: int) -> str:
    return f"{count} replica{'s' if count > 1 else ''}"
