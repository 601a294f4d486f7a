"""`hybridstitch-trt eval`: what the methods' pictures are worth."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import finite, whole
from hybridstitch.method.settings import SETTINGS
from hybridstitch.pairs.recipe import Recipe

from .arguments import (
    DEFAULT_PAIR,
    Parser,
    add_backend,
    add_engines,
    add_pair,
    add_setting,
    add_threads,
    checked,
    place,
)
from .output import require_writable, write_whole
from .progress import showing
from .run import quiet

if TYPE_CHECKING:
    from hybridstitch.evaluation.cases import PromptCase
    from hybridstitch.evaluation.quality.eval_report import EvalRow
    from hybridstitch.evaluation.quality.held_out import Probe
    from hybridstitch.evaluation.quality.records import Records
    from hybridstitch.evaluation.variants import Variant
    from hybridstitch.runtime.pipeline import HybridStitch

WITH_WORLD = "demo"
"""The pair whose captions and judge come along."""
ABLATIONS = ("score", "keys", "mask-ratio", "stage-ends", "refresh", "residual", "grid", "sketch", "steps", "moving-on")
SECONDS, OPERATIONS = "seconds", "operations"
MOST_CASES = 100_000
RECORDS = "pictures.jsonl"


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "eval",
        help="measure what the methods' pictures are worth",
        description="Draw held-out captions with every method over its settings and steps. Say how close the pictures "
        "are to the large model's own, and of the demo pair, whether they show what their captions say; each beside "
        "the large model alone with as many steps as fit into the same time. What was drawn is kept in --out, and a "
        "run that was stopped goes on.",
    )
    parser.set_defaults(call=evaluate)
    add_pair(parser)
    add_backend(parser)
    add_engines(parser)
    parser.add_argument("--device", metavar="NAME", help="such as cuda:1 (default: the CPU, or the backend's GPU)")
    add_threads(parser)
    add_setting(parser, "guidance")
    add_setting(parser, "steps")
    count = partial(whole, "count", span=range(2, MOST_CASES + 1))
    parser.add_argument("--count", type=checked(int, count), default=200, metavar="N", help="captions (default: 200)")
    parser.add_argument(
        "--prompts", type=place, metavar="FILE", help="one prompt a line (default: the demo pair's; others need it)"
    )
    parser.add_argument("--ablation", choices=ABLATIONS, help="vary one setting instead of comparing methods")
    parser.add_argument(
        "--variant",
        action="append",
        metavar="NAME",
        help="repeatable; only the variants whose names begin so (the large model with fewer steps is always there)",
    )
    parser.add_argument(
        "--by",
        choices=(SECONDS, OPERATIONS),
        default=SECONDS,
        help="compare at equal time (the default), or at as many operations: seconds of a busy machine say nothing",
    )
    parser.add_argument(
        "--minutes",
        type=checked(float, _minutes),
        metavar="N",
        help="begin no other caption after so many",
    )
    parser.add_argument("--out", type=place, default="out/eval", metavar="DIR", help="default: out/eval; is made")


def evaluate(arguments: argparse.Namespace) -> None:
    """Check everything, draw what is missing, report."""
    recipe = Recipe.load(arguments.pair or DEFAULT_PAIR)
    quiet()
    from hybridstitch.evaluation.figure import require_matplotlib
    from hybridstitch.evaluation.quality import ablations
    from hybridstitch.evaluation.quality.eval_report import rows_of
    from hybridstitch.evaluation.quality.evaluate import evaluate as draw
    from hybridstitch.evaluation.quality.plot import plot_quality
    from hybridstitch.evaluation.quality.records import Records
    from hybridstitch.evaluation.speed.machine import circumstances
    from hybridstitch.evaluation.variants import LARGE
    from hybridstitch.runtime.pipeline import HybridStitch

    require_matplotlib()
    cases, probe, accuracy = _cases(arguments, recipe), None, None
    folder, name = Path(arguments.out), arguments.ablation or "methods"
    plots = folder / name
    _make(folder)
    _make(plots)
    _require_own(folder, name)
    steps = SETTINGS["steps"].checked(arguments.steps or recipe.defaults.steps)
    assert isinstance(steps, int)
    common = {name: value for name in ("guidance", "steps") if (value := getattr(arguments, name)) is not None}
    asked = ablations.ABLATIONS[arguments.ablation](steps) if arguments.ablation else ablations.methods(steps)
    asked = _named(asked, arguments.variant)
    large = LARGE.but(**common)
    with HybridStitch.load(
        recipe.argument,
        engines=arguments.engines,
        backend=arguments.backend,
        device=arguments.device,
        threads=arguments.threads,
    ) as pipe:
        variants = _drawable(pipe, [*ablations.controls(steps, arguments.ablation), *asked], common)
        records = Records(plots / RECORDS, pipe)  # its own: seconds of one hour are compared
        if recipe.name == WITH_WORLD and arguments.prompts is None:
            probe, accuracy = _trusted_probe(records)
        seconds = None if arguments.minutes is None else 60 * arguments.minutes
        with showing("loading", "pictures") as progress:
            done = draw(pipe, large, variants, cases, records, probe=probe, seconds=seconds, progress=progress)
        if not done:
            raise HybridStitchError("no caption was drawn with every variant; give it more --minutes")
        true = probe.true_features() if probe is not None else None
        costs = _operations(pipe, [large, *variants]) if arguments.by == OPERATIONS else None
        rows = rows_of(records, large, variants, cases[:done], true, costs)
        about = {
            "pair": recipe.name,
            "backend": pipe.backend,
            "steps": steps,
            "guidance": pipe.resolve(["a"], **common)[0].parameters.guidance,
            "captions": done,
            "ablation": arguments.ablation,
            "compared_by": arguments.by,
            "judge_on_true_pictures": accuracy,
            **circumstances(sys.argv, pipe.device),
        }
    report = folder / f"{name}.json"
    write_whole(report, json.dumps({"about": about, "rows": [row.as_json() for row in rows]}, indent=2) + "\n")
    title = f"{recipe.name}, guidance {about['guidance']:g}, {done} captions"
    paths = plot_quality(rows, title, plots)
    _show(rows, title)
    print(*(str(path) for path in (report, *paths)), sep="\n")


def _drawable(pipe: HybridStitch, variants: list[Variant], common: Mapping[str, Any]) -> list[Variant]:
    """The variants that this pair can draw; the others are named on stderr."""
    from hybridstitch.evaluation.quality import ablations

    drawable, refused = ablations.drawable(pipe, [each.but(**{**common, **each.settings}) for each in variants])
    for line in refused:
        print(f"left out: {line}", file=sys.stderr)
    return [ablations.sketch_said(pipe, each) for each in drawable]


def _trusted_probe(records: Records) -> tuple[Probe | None, dict[str, float]]:
    """The judge, if it is right about true pictures, and its accuracy on them."""
    from hybridstitch.evaluation.quality.held_out import Probe, is_trusted
    from hybridstitch.evaluation.world.judge import JUDGE
    from hybridstitch.models.digests import file_sha256

    probe = Probe()
    accuracy = records.fact(f"judge {file_sha256(JUDGE)[:24]}", probe.accuracy)
    if is_trusted(accuracy):
        return probe, accuracy
    print(f"the judge is not asked: on true pictures it is right in {accuracy}", file=sys.stderr)
    return None, accuracy


def _operations(pipe: HybridStitch, variants: list[Variant]) -> dict[str, float]:
    """Of each variant's program, in full steps of the large model."""
    from hybridstitch.evaluation.cost.program_cost import program_costs

    manifests = {name: engine.manifest for name, engine in pipe.engines.items()}
    requests = [request for variant in variants for request in pipe.resolve(["a"], **variant.settings)]
    costs = program_costs(pipe.recipe, manifests, requests)
    return {variant.name: round(cost, 4) for variant, cost in zip(variants, costs, strict=True)}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HybridStitchError(f"--out: cannot make {folder}: {error.strerror}") from None
    require_writable(folder)


def _require_own(folder: Path, name: str) -> None:
    """Refuse a folder in which something else has the report's name. Beside its records a report is an earlier one."""
    if os.path.lexists(folder / f"{name}.json") and not (folder / name / RECORDS).exists():
        raise HybridStitchError(
            f"--out {folder}: {name}.json is there, and no evaluation drew its pictures there; name another folder"
        )


def _minutes(value: float) -> float:
    if finite("minutes", value) <= 0:
        raise HybridStitchError(f"minutes must be over 0, not {value:g}")
    return value


def _cases(arguments: argparse.Namespace, recipe: Recipe) -> list[PromptCase]:
    from hybridstitch.evaluation.cases import cases_from_file
    from hybridstitch.evaluation.quality.held_out import held_out_cases

    if arguments.prompts is not None:
        return cases_from_file(Path(arguments.prompts))[: arguments.count]
    if recipe.name != WITH_WORLD:
        raise HybridStitchError(f"no captions come along for pair {recipe.name!r}: give some with --prompts FILE")
    return held_out_cases(arguments.count)


def _named(variants: list[Any], beginnings: list[str] | None) -> list[Any]:
    if beginnings is None:
        return variants
    for beginning in beginnings:
        if not any(variant.name.startswith(beginning) for variant in variants):
            names = ", ".join(repr(variant.name) for variant in variants)
            raise HybridStitchError(f"no variant begins with {beginning!r}; there are {names}")
    return [variant for variant in variants if variant.name.startswith(tuple(beginnings))]


def _show(rows: list[EvalRow], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    judged, lpips = rows[0].all_right is not None, any("lpips" in row.means for row in rows)
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    grid = ["on grid"] if any(interval for row in rows for interval in row.beside_grid.values()) else []
    columns = ["variant", "s", "x", "PSNR", "control", *grid, "SSIM", *(["LPIPS"] if lpips else [])]
    for column in (*columns, *(["right", "control", *grid, "Frechet"] if judged else [])):
        table.add_column(column, justify="left" if column == "variant" else "right", no_wrap=True)
    for row in rows:
        cells = [row.variant.name, f"{row.seconds:.3f}", f"{row.speedup:.2f}"]
        psnr, ssim = row.means.get("psnr"), row.means.get("ssim")
        cells += [f"{psnr.mean:.1f}" if psnr else "", _difference(row.beside_control.get("psnr"), 1, 1)]
        cells += [_difference(row.beside_grid.get("psnr"), 1, 1)] if grid else []
        cells += [f"{ssim.mean:.3f}" if ssim else ""]
        if lpips:
            cells.append(f"{row.means['lpips'].mean:.3f}" if "lpips" in row.means else "")
        if judged and row.all_right is not None and row.frechet is not None:
            cells += [f"{100 * row.all_right.mean:.0f} %", _difference(row.beside_control.get("all_right"), 100, 0)]
            cells += [_difference(row.beside_grid.get("all_right"), 100, 0)] if grid else []
            cells += [f"{row.frechet:.2f}"]
        table.add_row(*cells)
    Console(width=max(132, Console().width)).print(table)


def _difference(interval: Any, scale: float, digits: int) -> str:
    """More or less than the control, and how sure that is: half of the interval."""
    if interval is None:
        return ""
    return f"{scale * interval.mean:+.{digits}f} ±{scale * (interval.high - interval.low) / 2:.{digits}f}"
