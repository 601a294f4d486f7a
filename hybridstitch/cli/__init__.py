"""The command line: each command parses its arguments and calls into the folders that do the work."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hybridstitch.method.errors import HybridStitchError

from . import build, doctor, engines, inspect, run, verify
from .arguments import Parser


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="hybridstitch-trt",
        description="HybridStitch for Stable Diffusion 3: a large and a small model draw one picture together.",
    )
    top.add_argument("--version", action="version", version=f"hybridstitch-trt {build.version()}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    run.add_to(commands)
    build.add_export_to(commands)
    build.add_build_to(commands)
    verify.add_to(commands)
    inspect.add_to(commands)
    engines.add_to(commands)
    doctor.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 where `verify` found something off, 2 for bad input (one line on
    stderr), 130 for Ctrl-C."""
    parsed = parser().parse_args(arguments)
    try:
        return parsed.call(parsed) or 0
    except HybridStitchError as error:
        print(f"hybridstitch-trt {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"hybridstitch-trt {parsed.command}: stopped", file=sys.stderr)
        return 130
