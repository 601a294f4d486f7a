"""Thousands of connections that send nothing, on each front: whether they stop a request, or make it slower.

    python -m benchmarks.silence           10,000 connections to each front: http, cpp, triton

The connections are opened, and a picture is drawn again and again beside them; each has the same bytes. Needs `make
engines`, `make cpp` and `make triton-server`, and so many open files (`ulimit -n`) here and in the server.
"""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.kills import FRONTS, PATIENCE, Kept, await_ready, parser
from benchmarks.machine import save
from hybridstitch.serving.http.connections import allow_connections

SPARE = 200
"""Open files that this process needs besides the connections."""


def beside(front: Kept, connections: int, pictures: int = 5) -> dict[str, Any]:
    """What a picture takes alone and beside silent connections.

    Returns:
        Seconds of each picture alone and beside them, and how many connections stood at the end: a front may end those
        that say nothing for too long.

    Raises:
        RuntimeError: a picture that is not drawn, or is another one. OSError: a connection that is refused.
    """
    await_ready(front, time.monotonic())
    picture = front.ask()
    alone = [_seconds(front, picture) for _ in range(pictures)]
    with ExitStack() as silent:
        opened = [_open(front, silent) for _ in range(connections)]
        crowded = [_seconds(front, picture) for _ in range(pictures)]
        standing = sum(not _ended(connection) for connection in opened)
    return {
        "connections": connections,
        "standing": standing,
        "alone": [round(each, 3) for each in alone],
        "beside": [round(each, 3) for each in crowded],
    }


def _open(front: Kept, silent: ExitStack) -> socket.socket:
    return silent.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE))


def _ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _seconds(front: Kept, picture: bytes | None) -> float:
    start = time.monotonic()
    if picture is None or front.ask() != picture:
        raise RuntimeError("a picture that is not drawn, or is another one")
    return time.monotonic() - start


def allow(connections: int) -> None:
    """Let this process, and by that the servers that it starts, have so many open files.

    Raises:
        RuntimeError: the system does not let it.
    """
    allow_connections()
    needed, room = connections + SPARE, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if room != resource.RLIM_INFINITY and room < needed:
        raise RuntimeError(f"{connections} connections need {needed} open files, and the system allows {room}")


def main() -> None:
    flags = parser(__doc__, "silence")
    flags.add_argument("--connections", type=int, default=10_000)
    options = flags.parse_args()
    allow(options.connections)
    rows, console = {}, Console()
    for name in options.fronts:
        with FRONTS[name](options.engines.absolute()) as front:
            rows[name] = row = beside(front, options.connections)
        alone, crowded = (f"{median(row[part]):.2f} s" for part in ("alone", "beside"))
        console.print(f"{name}: {alone} alone, {crowded} beside {row['connections']} that say nothing")
    if options.save:
        save("silence", "benchmarks.silence", {"fronts": rows})


if __name__ == "__main__":
    main()
