"""A Triton server and the process of a model end together, so that whatever keeps the server starts both again.

By itself the server goes on without the process: it calls itself ready, and requests that the model had taken never get
an answer. The process goes on without a server that was killed, with all its memory.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hybridstitch.serving.process_exit import end_process

WATCH = """
born() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null; }
before=$(born "$1")
read -r word
[ "$word" = over ] && exit
end() { [ "$(born "$1")" = "$before" ] && kill "-$2" "$1"; }
end "$1" TERM
sleep "$2"
end "$1" KILL
"""
"""Reads a pipe that the model's process holds: however that process dies, the pipe ends. It looks at when the server
was born, since another process may have its number by then."""
GRACE = 5
"""Seconds that other models of the server have to finish."""
LAST_WORDS = 5.0
"""Seconds that a model which can never draw again has to send its responses."""


def hold_lifeline(server: int | None = None, *, grace: float = GRACE) -> Callable[[], None]:
    """End the server, by SIGTERM and `grace` seconds later by SIGKILL, if this process dies.

    Args:
        server: its process; by default this one's parent, which is what started the model.

    Returns:
        Call it before this process ends as it should.
    """
    command = ["/bin/sh", "-c", WATCH, "lifeline", str(server or os.getppid()), str(grace)]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd=Path("/"))

    def release() -> None:
        watch.communicate(b"over\n")

    return release


def end_with_server(every: float = 1.0) -> None:
    """End this process at once when its parent, the server, is gone. `every`: seconds between two looks."""
    server = os.getppid()

    def watch() -> None:
        while os.getppid() == server:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def end_when_done(send: Callable[[], object], problem: str) -> None:
    """End this process with LOST_EXIT_CODE after its last responses, whose sending may hang or fail.

    Args:
        send: waits until they are sent. problem: why it ends.
    """
    last = threading.Timer(LAST_WORDS, end_process, (problem,))
    last.daemon = True
    last.start()
    try:
        send()
    finally:
        end_process(problem)
