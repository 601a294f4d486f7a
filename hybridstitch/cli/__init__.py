"""The command line: each command parses its arguments and calls into the folders that do the work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError

from . import bench, build, capacity, doctor, engines, evaluate, inspect, run, serve, triton, tune, verify
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
    serve.add_to(commands)
    triton.add_to(commands)
    build.add_export_to(commands)
    build.add_build_to(commands)
    verify.add_to(commands)
    evaluate.add_to(commands)
    bench.add_to(commands)
    tune.add_to(commands)
    capacity.add_to(commands)
    inspect.add_to(commands)
    engines.add_to(commands)
    doctor.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 where `verify` found something off, 2 for bad input (one line on
    stderr), 130 for Ctrl-C or SIGTERM, 141 where nobody reads stdout any more."""
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal without a path's letters shows their numbers
        sys.stdout.reconfigure(errors="backslashreplace")
    parsed = parser().parse_args(arguments)
    try:
        with _terminated_as_interrupted():
            code = parsed.call(parsed) or 0
        sys.stdout.flush()
        return code
    except HybridStitchError as error:
        print(f"hybridstitch-trt {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"hybridstitch-trt {parsed.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has what it wanted, as head has
        _drop_stdout()
        return 141
    except OSError as error:  # a disk or a right that no command could foresee, such as stdout in a file on a full disk
        _drop_stdout()
        place = f"{error.filename}: " if error.filename else ""
        print(f"hybridstitch-trt {parsed.command}: {place}{error.strerror or error}", file=sys.stderr)
        return 2


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what is half-written is removed on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _drop_stdout() -> None:
    """What is still buffered cannot be written; the interpreter would complain of it at its end."""
    with suppress(OSError), Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
