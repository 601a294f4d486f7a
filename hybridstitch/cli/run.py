"""`hybridstitch-trt run`: draw pictures."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import METHODS, OFF, SETTINGS, settings_from
from hybridstitch.method.size import Size
from hybridstitch.pairs.parameters import STAGE_LENGTHS, make_parameters
from hybridstitch.pairs.recipe import Recipe, recipe_names

from .arguments import (
    DEFAULT_PAIR,
    Parser,
    add_backend,
    add_engines,
    add_low_memory,
    add_pair,
    add_schedule,
    add_seed,
    add_setting,
    add_threads,
    place,
    size,
)
from .output import Place, picture_places


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "run",
        help="draw pictures",
        description="Draw one picture for each prompt, and say where the time went. What is not given is the recipe's.",
    )
    parser.set_defaults(call=run)
    what = parser.add_argument_group("what to draw")
    what.add_argument("--prompt", action="append", metavar="TEXT", help="repeatable: one picture each")
    what.add_argument(
        "--prompts-file", type=place, metavar="FILE", help="one prompt a line; empty lines and # lines are skipped"
    )
    what.add_argument("--negative-prompt", metavar="TEXT", help="what to steer away from")
    add_seed(what, None, "of the first picture; picture k has N + k")
    what.add_argument("--size", type=size, metavar="WxH", help="in pixels; one of the recipe's sizes")
    what.add_argument(
        "--like", type=place, metavar="PNG", help="take prompt, seed, size and parameters from a picture that this made"
    )

    how = parser.add_argument_group("how to draw it")
    how.add_argument("--method", choices=METHODS, help="hybrid is HybridStitch; the others are there to compare")
    add_schedule(how)
    for name in SETTINGS:
        add_setting(how, name)

    where = parser.add_argument_group("with what, and where to")
    add_pair(where)  # type: ignore[arg-type]
    add_backend(where)  # type: ignore[arg-type]
    add_engines(where)  # type: ignore[arg-type]
    where.add_argument("--device", metavar="NAME", help="such as cuda:1 (default: the CPU, or the backend's GPU)")
    add_threads(where)
    add_low_memory(where)
    where.add_argument(
        "--out", type=place, default=".", metavar="FILE|DIR", help="a .png file, or a folder (default: this one)"
    )
    where.add_argument(
        "--overwrite",
        action="store_true",
        help="let pictures take the place of files of their names (default: in a folder another picture gets a number, "
        "a file that is there is refused)",
    )
    where.add_argument(
        "--dry-run",
        action="store_true",
        help="draw nothing: show what each step would do, what it would cost, and the memory that it would take",
    )
    where.add_argument("--save-mask", action="store_true", help="also save the picture with the refined region over it")
    where.add_argument("--json", action="store_true", help="one JSON report on stdout instead of progress and table")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, load, draw, save, report. Returns the exit code: 1 when some pictures failed."""
    _like(arguments)
    arguments.pair = arguments.pair or DEFAULT_PAIR
    recipe = Recipe.load(arguments.pair, arguments.schedule)
    settings: Any = {name: getattr(arguments, name) for name in SETTINGS}
    parameters = make_parameters(recipe, arguments.method, **settings)
    if arguments.save_mask and not parameters.has_hybrid:
        raise HybridStitchError(
            f"--save-mask: method {parameters.method!r} with these steps has no hybrid stage, so no mask"
        )
    prompts = _prompts(arguments)
    seed = arguments.seed or 0
    asked = {name: getattr(arguments, name) for name in ("negative_prompt", "size", "method")}
    asked |= {"seed": seed, **settings}
    quiet()
    if arguments.dry_run:
        from .dry_run import dry_run

        dry_run(arguments, recipe, prompts, asked)
        return 0
    places = picture_places(arguments.out, prompts, seed, parameters.method, overwrite=arguments.overwrite)

    from hybridstitch.runtime.pipeline import HybridStitch  # slow imports, after what can be refused without them

    start = time.perf_counter()
    pipe = HybridStitch.load(
        recipe,
        engines=arguments.engines,
        backend=arguments.backend,
        device=arguments.device,
        threads=arguments.threads,
        low_memory=arguments.low_memory,
    )
    loading = time.perf_counter() - start
    requests = pipe.resolve(prompts, **asked)
    if arguments.json:
        result = pipe.run(requests)
    else:
        from .progress import showing

        with showing("text", "steps", kept=True) as on_step:
            result = pipe.run(requests, on_step)
    if not result.pictures:
        raise HybridStitchError(result.failures[0].error)
    report = _save(result, pipe, places, arguments.save_mask)
    report["seconds_to_load"] = loading
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        from .progress import print_result

        print_result(report)
    for failure in result.failures:
        print(f"not drawn: {failure.request.prompt!r}: {failure.error}", file=sys.stderr)
    return 1 if result.failures else 0


def _save(result: Any, pipe: Any, places: list[Place], save_mask: bool) -> dict[str, Any]:
    """Write every picture; returns the report."""
    from hybridstitch.runtime.pictures import encode_png
    from hybridstitch.runtime.result import Failure, settings_of

    from .build import version

    pictures = []
    for picture, destination in zip(result.outcomes, places, strict=True):
        if isinstance(picture, Failure):
            continue
        made = settings_of(picture, pipe.recipe.name, pipe.backend, version())
        mask = None
        if save_mask and (overlay := picture.overlay()) is not None:
            mask = encode_png(overlay, {**made, "shows": "the region that the large model refined"})
        path, beside = destination.save(encode_png(picture.image, made), mask)
        pictures.append(
            {
                "path": str(path),
                "mask_path": str(beside) if beside is not None else None,
                "prompt": picture.prompt,
                "negative_prompt": picture.negative_prompt,
                "seed": picture.seed,
                "size": str(picture.size),
                "mask_ratio": picture.mask_ratio,
                "parameters": picture.parameters.as_dict(),
            }
        )
    return {
        "pictures": pictures,
        "failures": [{"prompt": failure.request.prompt, "error": failure.error} for failure in result.failures],
        "seed": pictures[0]["seed"],
        "parameters": pictures[0]["parameters"],
        "pair": pipe.recipe.name,
        "backend": pipe.backend,
        "device": str(pipe.device),
        "version": version(),
        **result.timing.as_dict(),
    }


def _prompts(arguments: argparse.Namespace) -> list[str]:
    prompts = list(arguments.prompt or [])
    if arguments.prompts_file:
        try:
            lines = Path(arguments.prompts_file).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise HybridStitchError(f"--prompts-file {arguments.prompts_file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise HybridStitchError(f"--prompts-file {arguments.prompts_file} is not UTF-8 text") from None
        prompts += [text for line in lines if (text := line.strip()) and not text.startswith("#")]
        if not prompts:
            raise HybridStitchError(f"--prompts-file {arguments.prompts_file} holds no prompt")
    if not prompts:
        raise HybridStitchError("there is no prompt: give --prompt, --prompts-file or --like")
    return prompts


def _like(arguments: argparse.Namespace) -> None:
    """Fill in, from a picture's metadata, what the command line leaves open."""
    if not arguments.like:
        return
    if arguments.schedule:
        raise HybridStitchError("--like takes method and settings from the picture; leave out --schedule")
    from hybridstitch.runtime.pictures import read_metadata

    made = read_metadata(Path(arguments.like))
    try:
        ours: dict[str, Any] = {name: made[name] for name in ("prompt", "negative_prompt", "seed", "method")}
        ours |= settings_from(made)
        drawn, pair = Size.parse(made["size"]), str(made["pair"])
    except (KeyError, TypeError) as error:
        raise HybridStitchError(f"{arguments.like} does not say how it was made: it lacks {error}") from None
    if arguments.pair is None and pair not in recipe_names():
        raise HybridStitchError(
            f"{arguments.like} was drawn by pair {pair!r}, a recipe of its own: add --pair and that .toml file"
        )
    if arguments.method not in (None, ours["method"]):
        raise HybridStitchError(f"--like {arguments.like} was drawn with method {ours['method']!r}; leave out --method")
    prompt = ours.pop("prompt")
    if arguments.adaptive not in (None, OFF):  # it finds the stage ends itself
        ours = {name: value for name, value in ours.items() if name not in STAGE_LENGTHS}
    for name, value in ours.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.size = arguments.size or drawn
    arguments.prompt = arguments.prompt or ([] if arguments.prompts_file else [prompt])
    arguments.pair = arguments.pair or pair


def quiet() -> None:
    """Libraries warn about things that a user of this command can do nothing about."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
