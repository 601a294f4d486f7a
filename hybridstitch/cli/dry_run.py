"""`hybridstitch-trt run --dry-run`: what a run would do, cost and take, told without opening an engine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from hybridstitch.engines.backends import find_backend, find_device
from hybridstitch.engines.open import FoundPair, find_engines
from hybridstitch.evaluation.cost.program_cost import step_shares
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import whole_seed
from hybridstitch.method.program import Kind, StepSpec
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.memory import Memory, free_bytes, predict
from hybridstitch.runtime.request import Request, Requests

Shares = Mapping[StepSpec, float]


def dry_run(arguments: argparse.Namespace, recipe: Recipe, prompts: Sequence[str], asked: Mapping[str, Any]) -> None:
    """Resolve the requests as `run` does, and report.

    Raises:
        HybridStitchError: whatever `run` refuses before it opens an engine.
    """
    pair = find_engines(recipe, arguments.backend, arguments.engines)
    requests = Requests.of_built(recipe, pair)
    first = whole_seed(asked["seed"], len(prompts))
    requested: list[dict[str, Any]] = [{**asked, "seed": first + index} for index in range(len(prompts))]
    resolved = [requests.resolve(text, **each) for text, each in zip(prompts, requested, strict=True)]
    batches = [len(places) for places in requests.batches(resolved)]
    shares, unknown = _shares(recipe, pair, resolved[0])
    low_memory = recipe.defaults.low_memory if arguments.low_memory is None else arguments.low_memory
    memory = _memory(recipe, pair, resolved[0], max(batches), low_memory=low_memory)
    free = _free(arguments)
    report = {
        "parameters": resolved[0].parameters.as_dict(),
        "size": str(resolved[0].size),
        "rows": resolved[0].rows,
        "masked_tokens": resolved[0].masked,
        "image_tokens": pair.geometry.tokens(resolved[0].size),
        "batches": batches,
        "program": [
            {**asdict(step), "share_of_full_step": shares[step] if shares else None} for step in resolved[0].program
        ],
        "cost": sum(shares[step] for step in resolved[0].program) if shares else None,
        "memory": memory.as_dict(),
        "free_bytes": free,
        "fits": None if free is None else memory.total <= free,
    }
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        _print(Console(highlight=False), resolved[0], report, shares, unknown)


def _shares(recipe: Recipe, pair: FoundPair, request: Request) -> tuple[Shares, str | None]:
    """What each step costs; nothing, and why, where the checkpoints' configs are not here."""
    try:
        return step_shares(recipe, pair.manifests, request), None
    except HybridStitchError as error:
        return {}, str(error)


def _memory(recipe: Recipe, pair: FoundPair, request: Request, images: int, *, low_memory: bool) -> Memory:
    needed = pair.needed(request.size, images)
    return predict(needed, recipe, request.parameters, request.size, images, low_memory=low_memory)


def _free(arguments: argparse.Namespace) -> int | None:
    """Bytes that are free on the device of the run; None where it is not here."""
    try:
        return free_bytes(find_device(find_backend(arguments.backend), arguments.device))
    except HybridStitchError:
        return None


def _print(console: Console, request: Request, report: Mapping[str, Any], shares: Shares, unknown: str | None) -> None:
    tokens, masked = report["image_tokens"], request.masked or 0
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold")
    table.title = f"{request.parameters.method} at {request.size}, {len(request.program)} steps; nothing is drawn"
    for name in ("steps", "stage", "kind", "large", "small", "cost", "then"):
        table.add_column(name, justify="right" if name in ("large", "small", "cost") else "left")
    start = 1
    for step, same in groupby(request.program):
        count = len(list(same))
        large = {"full": tokens, "hybrid": masked, "held": masked}.get(step.kind, 0)
        small = tokens if step.kind in ("hybrid", "small") or step.measure else 0
        share = f"{count} x {shares[step]:.2f}" if shares else "-"
        row = (f"{start}-{start + count - 1}" if count > 1 else str(start), str(step.stage), str(step.kind))
        table.add_row(*row, str(large or "-"), str(small or "-"), share, _then(step))
        start += count
    console.print(table)
    console.print("large, small: tokens that the model computes; cost: operations, 1 is a full step of the large model")
    if shares:
        console.print(f"cost: {report['cost']:.2f} full steps of the large model")
    else:
        console.print(f"cost: not known ({unknown})", markup=False, soft_wrap=True)
    if request.parameters.adaptive is not None:
        console.print("adaptive switching ends stages on the way: what follows is decided while drawing")
    rows = f"{request.rows} rows a picture" if request.rows > 1 else "1 row a picture (no guidance)"
    console.print(f"batches: {' + '.join(map(str, report['batches']))} pictures, {rows}")
    console.print(_memory_line(report), soft_wrap=True)


def _then(step: StepSpec) -> str:
    words = []
    if step.mask_used:
        words.append("end the mask")
    if step.renew:
        words.append("renew the residual")
    if step.measure:
        words.append("measure the residual")
    if step.score is not None:
        words.append(f"new mask by {step.score}")
    if step.kind is Kind.FULL and step.correct:
        words.append("correct held tokens")
    if step.kind is Kind.HELD and step.extrapolate:
        words.append(f"held tokens move on by {step.extrapolate:g}")
    if step.remember:
        words.append("remember the velocity")
    return ", ".join(words) or "-"


def _memory_line(report: Mapping[str, Any]) -> str:
    memory, free = report["memory"], report["free_bytes"]
    parts = ", ".join(
        f"{words} {_size(memory[name])}"
        for name, words in (
            ("weights", "weights"),
            ("keys_values", "keys and values"),
            ("latents", "latents"),
            ("scratch", "scratch"),
        )
    )
    line = f"memory: {_size(memory['total'])} ({parts})"
    if free is None:
        return f"{line}; the backend's device is not here"
    verdict = "it fits" if report["fits"] else "it does NOT fit"
    return f"{line}; {_size(free)} free: {verdict}"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
