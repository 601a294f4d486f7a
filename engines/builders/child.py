"""Work in a child process: told on its stdin, heard on its stdout, ended with its parent.

The child's stdin stays open for as long as the work is wanted. When it closes, because the parent was interrupted or
died, the child has `GRACE_SECONDS` to stop.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

GRACE_SECONDS = 10
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Ending:
    """How a child ended. code: its exit code, or minus the number of the signal that ended it. printed: the end of what
    it and its libraries wrote to stderr."""

    code: int
    printed: str


def run_child(command: Sequence[str], environment: Mapping[str, str], job: str, hear: Callable[[Any], None]) -> Ending:
    """Run a child until it ends; nothing of it is left when this returns or raises.

    Args:
        job: the line that it reads first.
        hear: given each line of JSON that it writes to its stdout; what this raises ends the child.

    Raises:
        KeyboardInterrupt: Ctrl-C, also where only this process got it.
    """
    with tempfile.TemporaryFile() as printed:
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=printed, env=environment, text=True)
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with suppress(BrokenPipeError):  # it ended before it read: its exit code says more
                child.stdin.write(f"{job}\n")
                child.stdin.flush()
            for line in child.stdout:
                if line.endswith("\n"):  # else it was killed while it wrote
                    hear(json.loads(line))
            child.wait()
        finally:
            _end(child)
        return Ending(child.returncode, _tail(printed))


def _end(child: subprocess.Popen[str]) -> None:
    """Ask a child to stop, and kill one that does not. One that has ended stays as it is."""
    try:
        for stream in (child.stdin, child.stdout):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    finally:  # also after a second Ctrl-C
        child.kill()
        child.wait()


def _tail(printed: IO[bytes]) -> str:
    size = printed.seek(0, 2)
    printed.seek(max(0, size - _TAIL_BYTES))
    return printed.read().decode(errors="replace")
