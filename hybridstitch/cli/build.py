"""`hybridstitch-trt export` and `build`: checkpoint -> ONNX -> engines."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hybridstitch.method.numbers import finite, whole
from hybridstitch.method.progress import within
from hybridstitch.pairs.recipe import Dtype, Recipe

if TYPE_CHECKING:
    from hybridstitch.export.export_pair import PairExport

from .arguments import DEFAULT_PAIR, Parser, add_backend, add_pair, checked, place
from .progress import showing


def version() -> str:
    """The installed version of this package."""
    return metadata.version("hybridstitch-trt")


def add_export_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "export",
        help="turn a pair's checkpoints into ONNX",
        description="Export both transformers in token space, the text encoders and the VAE decoder to ONNX. "
        "Weights stay in the checkpoint's files where their type allows it.",
    )
    parser.set_defaults(call=export)
    _add_source(parser)
    parser.add_argument("--out", type=place, metavar="DIR", help="where to (default: build/PAIR/onnx)")


def add_build_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "build",
        help="build a pair's engines",
        description="Build the engines of a pair, exporting it first. What did not change is not built again.",
    )
    parser.set_defaults(call=build)
    _add_source(parser)
    add_backend(parser)
    parser.add_argument("--out", type=place, metavar="DIR", help="where to (default: build/PAIR/BACKEND)")
    parser.add_argument(
        "--onnx", type=place, metavar="DIR", help="where the ONNX files are or go (default: build/PAIR/onnx)"
    )
    tensorrt = parser.add_argument_group("TensorRT")
    tensorrt.add_argument(
        "--workspace",
        type=checked(float, partial(finite, "workspace")),
        metavar="GIB",
        help="limit of the builder's scratch memory",
    )
    tensorrt.add_argument(
        "--optimization-level",
        type=checked(int, partial(whole, "optimization level", span=range(6))),
        metavar="N",
        help="0 (quick build) to 5 (quick engine)",
    )
    tensorrt.add_argument(
        "--compute-capability",
        action="append",
        metavar="SM",
        help="repeatable; the GPUs to build for (TensorRT for RTX)",
    )
    tensorrt.add_argument(
        "--timing-cache", type=place, metavar="FILE", help="keep measured kernel times for the next build (TensorRT)"
    )
    tensorrt.add_argument(
        "--weight-streaming", action="store_true", help="keep weights in host memory, pass them through the GPU"
    )
    tensorrt.add_argument(
        "--version-compatible", action="store_true", help="plans that later TensorRT versions run too"
    )
    tensorrt.add_argument(
        "--hardware-compatible",
        choices=("ampere_plus", "same_compute_capability"),
        help="plans that other GPUs run too",
    )
    tensorrt.add_argument(
        "--static-batch", action="store_true", help="a profile for each batch size instead of a range"
    )


def _add_source(parser: Parser) -> None:
    add_pair(parser)
    parser.add_argument("--dtype", choices=get_args(Dtype), help="of the graphs (default: the recipe's)")


def export(arguments: argparse.Namespace) -> None:
    """Checkpoint -> ONNX."""
    recipe = Recipe.load(arguments.pair or DEFAULT_PAIR)
    done = _export(recipe, Path(arguments.out or _onnx_folder(recipe)), arguments.dtype)
    for names, state in ((done.written, "exported"), (done.reused, "unchanged")):
        for name in names:
            print(f"{name:15} {state}")
    print(f"ONNX graphs of pair {recipe.name}: {done.folder}")


def build(arguments: argparse.Namespace) -> None:
    """Checkpoint -> ONNX -> engines."""
    from hybridstitch.engines.backends import find_backend
    from hybridstitch.engines.builders.build_pair import build_pair
    from hybridstitch.engines.builders.options import BuildOptions

    recipe = Recipe.load(arguments.pair or DEFAULT_PAIR)
    options = BuildOptions(
        workspace_gib=arguments.workspace,
        optimization_level=arguments.optimization_level,
        compute_capabilities=tuple(arguments.compute_capability or ()),
        timing_cache=Path(arguments.timing_cache) if arguments.timing_cache else None,
        weight_streaming=arguments.weight_streaming,
        version_compatible=arguments.version_compatible,
        hardware_compatible=arguments.hardware_compatible,
        static_batch=arguments.static_batch,
    )
    options.check(arguments.backend)
    _ = find_backend(arguments.backend).version  # is it there at all: told before the export, not after
    onnx = Path(arguments.onnx or _onnx_folder(recipe))
    _export(recipe, onnx, arguments.dtype)
    with showing("building") as show:
        report = build_pair(
            recipe,
            onnx,
            Path(arguments.out) if arguments.out else None,
            arguments.backend,
            options=options,
            progress=show,
        )
    width = max(15, *(len(component.component) for component in report.components))
    for component in report.components:
        why = f" (changed: {', '.join(component.why)})" if component.why else ""
        seconds = f"{component.seconds:6.1f} s" if component.state == "built" else ""
        print(f"{component.component:{width}} {component.state:9} {component.bytes / 2**20:8.1f} MiB {seconds}{why}")
    print(f"engines of pair {report.pair} for {report.backend}: {report.folder}")


def _export(recipe: Recipe, out: Path, dtype: str | None) -> PairExport:
    from hybridstitch.export.export_pair import export_pair

    with showing("export", "MB") as show:
        exported = export_pair(recipe, out, dtype=dtype, progress=within(show, "export"))
    for warning in exported.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return exported


def _onnx_folder(recipe: Recipe) -> Path:
    return Path("build") / recipe.name / "onnx"
