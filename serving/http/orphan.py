"""The end of a worker whose parent is gone: `serve --restart`, killed itself.

The parent alone holds the writing end of a pipe. So the pipe ends with the parent, however that dies, on every system,
and also where it died before the worker looked.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from hybridstitch.method.errors import HybridStitchError

from .logs import log

LAST_WORDS = 5.0
"""Seconds that a worker without a parent has to answer what it has taken: another server wants its port."""


def end_with_parent(pipe: int) -> None:
    """Watch the reading end of the parent's pipe; when it ends, stop as by SIGTERM, and after LAST_WORDS in any case.

    Raises:
        HybridStitchError: it is no file descriptor.
    """
    try:
        os.fstat(pipe)
    except OSError as error:
        raise HybridStitchError(f"--parent-fd {pipe} is no pipe: {error.strerror}") from None
    threading.Thread(target=_watch, args=(pipe,), name="parent", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    log("the parent is gone", level=logging.ERROR)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_WORDS)
    logging.shutdown()
    os._exit(1)
