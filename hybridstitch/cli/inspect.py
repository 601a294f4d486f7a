"""`hybridstitch-trt inspect`: what engines take and give, and the memory of a run, without loading a plan."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

from .arguments import DEFAULT_PAIR, add_backend, add_low_memory, add_pair, add_setting, place

if TYPE_CHECKING:
    from hybridstitch.engines.open import FoundPair
    from hybridstitch.engines.store.manifest import Manifest


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "inspect",
        help="show inputs, profiles, weights and the memory of a run",
        description="Show what a pair's engines take and give, their profiles, and the device memory that a run takes "
        "at each size and batch. No plan is loaded.",
    )
    parser.set_defaults(call=inspect)
    add_pair(parser)
    add_backend(parser)
    parser.add_argument(
        "--engines", type=place, metavar="DIR", help="where they were built (default: build/PAIR/BACKEND)"
    )
    parser.add_argument("--method", help="whose memory (default: the recipe's)")
    add_setting(parser, "mask_ratio")
    add_low_memory(parser)
    parser.add_argument("--json", action="store_true", help="one JSON report on stdout")


def inspect(arguments: argparse.Namespace) -> None:
    from hybridstitch.engines.open import find_engines

    recipe = Recipe.load(arguments.pair or DEFAULT_PAIR)
    parameters = make_parameters(recipe, arguments.method, mask_ratio=arguments.mask_ratio)
    pair = find_engines(recipe, arguments.backend, arguments.engines)
    built = sorted((built for plans in pair.plans.values() for built in plans), key=lambda built: built.name)
    low_memory = recipe.defaults.low_memory if arguments.low_memory is None else arguments.low_memory
    memory = _memory(pair, recipe, parameters, low_memory=low_memory)
    if arguments.json:
        engines = {manifest.name: manifest.as_json() for manifest in built}
        print(
            json.dumps(
                {"folder": str(pair.folder), "parameters": parameters.as_dict(), "memory": memory, "engines": engines},
                indent=1,
            )
        )
        return
    console = Console(highlight=False)
    for manifest in built:
        _print_engine(console, manifest)
    _print_memory(console, memory, parameters)


def _memory(
    pair: FoundPair, recipe: Recipe, parameters: SamplingParameters, *, low_memory: bool
) -> list[dict[str, Any]]:
    from hybridstitch.runtime.memory import predict

    return [
        {
            "size": str(size),
            "batch": batch,
            **predict(pair.needed(size, batch), recipe, parameters, size, batch, low_memory=low_memory).as_dict(),
        }
        for size in recipe.profiles.sizes
        for batch in recipe.profiles.batch_sizes
    ]


def _print_engine(console: Console, manifest: Manifest) -> None:
    from hybridstitch.runtime.memory import weight_bytes

    target = ", ".join(manifest.targets) or str(manifest.hardware)
    head = f"{manifest.dtype}, {weight_bytes(manifest) / 2**20:.1f} MiB of weights, for {target}"
    console.print(f"[bold]{manifest.name}[/]  {head}")
    for kind, tensors in (("in", manifest.inputs), ("out", manifest.outputs)):
        shown = {name: spec for name, spec in tensors.items() if not name[-1:].isdigit() or name.endswith(".0")}
        for name, spec in shown.items():
            repeated = "" if not name.endswith(".0") else f" ... .{_count(tensors, name) - 1}"
            dims = ", ".join(str(dim) for dim in spec.dims)
            console.print(f"  {kind:4} {name}{repeated} [{dims}] {spec.dtype}", markup=False)
    for profile in manifest.profiles:
        ranges = ", ".join(
            f"{symbol} {low}" if low == high else f"{symbol} {low}-{high} (tuned for {typical})"
            for symbol, (low, typical, high) in profile.ranges.items()
        )
        console.print(f"  profile {profile.name}: {ranges}", markup=False, soft_wrap=True)


def _count(tensors: Mapping[str, Any], first: str) -> int:
    stem = first.removesuffix("0")
    return sum(name.startswith(stem) for name in tensors)


def _print_memory(console: Console, rows: list[dict[str, Any]], parameters: SamplingParameters) -> None:
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold")
    unit, size = ("GiB", 2**30) if max(row["total"] for row in rows) >= 2**30 else ("MiB", 2**20)
    table.title = f"memory of a {parameters.method} run, in {unit} (scratch is an estimate)"
    columns = ("size", "batch", "weights", "keys_values", "latents", "scratch", "total")
    for column in columns:
        table.add_column(column.replace("keys_values", "K/V"), justify="left" if column == "size" else "right")
    for row in rows:
        table.add_row(row["size"], str(row["batch"]), *(f"{row[name] / size:.2f}" for name in columns[2:]))
    console.print(table)
