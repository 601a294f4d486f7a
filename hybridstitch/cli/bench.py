"""`hybridstitch-trt bench`: every method beside the large model, in seconds and in closeness."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import whole
from hybridstitch.method.settings import SETTINGS
from hybridstitch.pairs.recipe import Recipe

from .arguments import (
    DEFAULT_PAIR,
    Parser,
    add_backend,
    add_engines,
    add_overwrite,
    add_pair,
    add_schedule,
    add_setting,
    add_threads,
    checked,
    place,
)
from .output import require_file_place, require_folder, require_free, write_whole
from .progress import showing
from .run import quiet

if TYPE_CHECKING:
    from hybridstitch.evaluation.cases import PromptCase

MOST_REPETITIONS = 1000


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "bench",
        help="measure every method beside the large model",
        description="Draw the same prompts with every method in turns, and say what a picture takes, how close it is "
        "to the large model's own and in which share of the run no engine was running; then what one call of each "
        "engine takes, a masked call beside a full one, and diffusers' own pipeline.",
    )
    parser.set_defaults(call=bench)
    add_pair(parser)
    add_schedule(parser)
    add_backend(parser)
    add_engines(parser)
    parser.add_argument("--device", metavar="NAME", help="such as cuda:1 (default: the CPU, or the backend's GPU)")
    add_threads(parser)
    parser.add_argument(
        "--captions",
        "--prompts",
        type=place,
        metavar="FILE",
        help="one prompt a line (default: the demo pair's held-out ones; other pairs need it)",
    )
    repetitions = partial(whole, "repetitions", span=range(1, MOST_REPETITIONS + 1))
    parser.add_argument(
        "--repetitions", type=checked(int, repetitions), default=3, metavar="N", help="of all prompts (default: 3)"
    )
    add_setting(parser, "guidance")
    add_setting(parser, "steps")
    parser.add_argument(
        "--fewer-steps",
        type=checked(str, SETTINGS["steps"].parsed),
        metavar="N",
        help="of the rows with fewer of them (default: 12 of 28)",
    )
    parser.add_argument(
        "--mask-ratio",
        type=checked(str, SETTINGS["mask_ratio"].parsed),
        action="append",
        metavar="R",
        help="repeatable; that hybrid is measured with (default: 0.15, 0.3 and 0.5)",
    )
    parser.add_argument("--no-diffusers", action="store_true", help="leave diffusers' own pipeline out")
    parser.add_argument("--json", type=place, metavar="FILE", help="also write all of it there")
    parser.add_argument("--plots", type=place, metavar="DIR", help="also write closeness.png and masked-call.png there")
    add_overwrite(parser)


def bench(arguments: argparse.Namespace) -> int:
    """Check everything, measure, write, report."""
    pair = arguments.pair or DEFAULT_PAIR
    recipe = Recipe.load(pair, arguments.schedule)
    if arguments.json:
        require_file_place(Path(arguments.json), "--json", overwrite=arguments.overwrite)
    if arguments.plots:
        require_folder(Path(arguments.plots), "--plots")
    cases = _cases(arguments, recipe)

    quiet()
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers, transformers):  # this command has a bar of its own
        library.utils.logging.disable_progress_bar()
    from hybridstitch.evaluation.figure import require_matplotlib
    from hybridstitch.evaluation.speed.bench import RATIOS, BenchOptions
    from hybridstitch.evaluation.speed.bench import (
        bench as measure,  # slow imports, after what can be refused without them
    )
    from hybridstitch.evaluation.speed.plot import PLOTS, plot_bench
    from hybridstitch.runtime.pipeline import HybridStitch

    from .bench_tables import print_report

    if arguments.plots:
        require_matplotlib()
        for name in () if arguments.overwrite else PLOTS:
            require_free(Path(arguments.plots) / name, "--plots")
    options = BenchOptions(
        repetitions=arguments.repetitions,
        guidance=arguments.guidance,
        steps=arguments.steps,
        fewer_steps=arguments.fewer_steps,
        ratios=tuple(arguments.mask_ratio or RATIOS),
        threads=arguments.threads,
        diffusers=not arguments.no_diffusers,
    )
    pipe = HybridStitch.load(
        pair,
        engines=arguments.engines,
        backend=arguments.backend,
        device=arguments.device,
        threads=arguments.threads,
        schedule=arguments.schedule,
    )
    with showing("loading") as show:
        report = measure(pipe, cases, options, ["hybridstitch-trt", *sys.argv[1:]], show)
    if arguments.json:
        write_whole(Path(arguments.json), json.dumps(report.as_dict(), indent=1) + "\n")
    pictures = plot_bench(report, Path(arguments.plots)) if arguments.plots else []
    print_report(report)
    for path in [*([arguments.json] if arguments.json else []), *pictures]:
        print(path)
    return 0


def _cases(arguments: argparse.Namespace, recipe: Recipe) -> list[PromptCase]:
    from hybridstitch.evaluation.cases import DEMO_CASES, cases_from_file

    if arguments.captions:
        return cases_from_file(Path(arguments.captions))
    if recipe.name != "demo":
        raise HybridStitchError(f"pair {recipe.name!r} has no prompts of its own: give --captions FILE, one a line")
    return list(DEMO_CASES)
