"""`hybridstitch-trt triton`: a model repository for NVIDIA Triton."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe

from .arguments import (
    DEFAULT_PAIR,
    Parser,
    add_backend,
    add_engines,
    add_pair,
    add_queue,
    add_threads,
    place,
    whole_number,
)

STREAM = "_stream"
"""What the name of a decoupled model ends with, unless it is given."""


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "triton",
        help="write a model repository for NVIDIA Triton",
        description="Write a model for Triton's Python backend into a model repository: config.pbtxt, 1/model.py and "
        "probe.py, which tells whether it draws.",
    )
    parser.set_defaults(call=triton)
    add_pair(parser)
    add_backend(parser)
    add_engines(parser)
    add_threads(parser)
    parser.add_argument(
        "--out", type=place, required=True, metavar="DIR", help="the repository; it may have other models"
    )
    parser.add_argument("--name", metavar="NAME", help=f"of the model (default: PAIR, decoupled PAIR{STREAM})")
    parser.add_argument(
        "--decoupled", action="store_true", help="several responses each: progress, previews, then the picture"
    )
    parser.add_argument(
        "--gpus",
        type=whole_number("gpus", 0, 1023),
        nargs="+",
        metavar="N",
        help="an instance on each (default: on each that the server has, or the CPU, as the backend runs)",
    )
    parser.add_argument(
        "--environment",
        type=place,
        metavar="DIR|none",
        help="the virtual environment that the model runs in (default: this one); none: the server's own Python",
    )
    parser.add_argument(
        "--end-server",
        action="store_true",
        help="end the whole server when the model's process dies, for what restarts it: Triton itself does not",
    )
    add_queue(parser)


def triton(arguments: argparse.Namespace) -> None:
    """Check everything, write the model, say how it is served."""
    recipe = Recipe.load(arguments.pair or DEFAULT_PAIR)
    from hybridstitch.engines.backends import find_backend  # slow imports, after what can be refused without them
    from hybridstitch.engines.open import find_engines
    from hybridstitch.serving.triton.config import ModelOptions, config_text
    from hybridstitch.serving.triton.repository import write_model

    backend = find_backend(arguments.backend)
    if arguments.gpus is not None and backend.name == "onnxruntime":
        raise HybridStitchError("--gpus: backend onnxruntime runs on the CPU; for GPUs give another --backend")
    environment = _environment(arguments.environment)
    engines = find_engines(recipe, backend.name, arguments.engines)
    named = Path(recipe.argument)
    pair = str(named.resolve()) if named.suffix == ".toml" else recipe.argument
    options = replace(ModelOptions.among(vars(arguments)), pair=pair, engines=str(engines.folder.resolve()))
    gpus = arguments.gpus if arguments.gpus is not None else [] if backend.needs_gpu else None
    config = config_text(options, gpus=gpus, environment=environment, decoupled=arguments.decoupled)
    name = arguments.name or recipe.name + (STREAM if arguments.decoupled else "")
    repository = Path(arguments.out)
    folder = write_model(repository, name, config)
    print(f"wrote {folder}")
    print(f"serve it:  tritonserver --model-repository {repository.resolve()}")
    print(f"probe it:  python3 {folder / 'probe.py'} http://127.0.0.1:8000")


def _environment(given: str | None) -> str | None:
    """The virtual environment that a model is to run in; None: none."""
    if given == "none":
        return None
    if given is None:
        return (
            sys.prefix if sys.prefix != sys.base_prefix and (Path(sys.prefix) / "bin" / "activate").exists() else None
        )
    folder = Path(given).absolute()
    if not (folder / "bin" / "activate").is_file():
        raise HybridStitchError(f"--environment {given} is no virtual environment: it has no bin/activate")
    return str(folder)
