"""`serve --restart`: a parent that holds the socket, and a worker that answers on it, started again when it dies.

The parent answers nothing, so there is little in it that could fail. Connections that come while there is no worker
wait in the socket for the next; those that the dead one had are closed by the system. With a parent that is killed a
pipe ends, and with that the worker (`orphan`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

from .logs import log

FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0
"""Seconds until a worker that died is started again: doubled each time, up to the longest."""
STEADY = 60.0
"""Seconds after which a worker counts as well, and the waits begin anew."""
BAD_INPUT = 2
"""The exit code of what no restart mends."""
GLANCE = 0.05
"""Seconds between looks for a signal while it waits. Not an Event: its lock may be held when a signal comes."""


class Restarting:
    """Starts a command again whenever it dies, until it ends by itself or a signal ends both."""

    def __init__(self, command: Sequence[str], listening: socket.socket) -> None:
        """
        Args:
            command: of the worker; `--parent-fd N` is added, a pipe that ends with this process, and `--fd N`, the
                socket that it answers on.
        """
        self._listening, self._stopping = listening, False
        self._pipe = os.pipe()
        self._shared = [self._pipe[0], listening.fileno()]
        self._command = [*command, "--parent-fd", str(self._shared[0]), "--fd", str(self._shared[1])]
        self._worker: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Returns the exit code: the last worker's, 0 where it was killed; 2 if the first is refused its input."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._keep()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in self._pipe:
                os.close(end)

    def _keep(self) -> int:
        wait, died = FIRST_WAIT, 0
        while True:
            start = time.monotonic()
            code = self._work()
            if self._stopping or code == 0 or (code == BAD_INPUT and not died):
                return max(code, 0)
            died += 1
            wait = FIRST_WAIT if time.monotonic() - start > STEADY else wait
            log("worker died", level=logging.ERROR, exit_code=code, again_in_seconds=wait, died=died)
            until = time.monotonic() + wait
            while time.monotonic() < until:
                if self._stopping:
                    return 0
                time.sleep(GLANCE)
            wait = min(2 * wait, LONGEST_WAIT)

    def _work(self) -> int:
        """One worker, to its end. It has a session of its own: Ctrl-C reaches it through the parent alone."""
        self._worker = subprocess.Popen(
            self._command, pass_fds=self._shared, stdin=subprocess.DEVNULL, start_new_session=True
        )
        if self._stopping:  # a signal that came in between
            self._end()
        try:
            return self._worker.wait()
        finally:
            self._worker = None

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._end()

    def _end(self) -> None:
        """Let the worker finish what it has; a second time it does not wait. It alone holds the port from here on:
        connections that come when it has closed that are refused, and do not wait here for nobody."""
        if self._worker is not None:
            self._listening.close()
            self._worker.terminate()
