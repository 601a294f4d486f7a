"""How a process ends whose service can never draw again, for whatever keeps it to start another."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

LOST_EXIT_CODE = 75
"""The exit code of such a process: EX_TEMPFAIL of sysexits.h, since another process may draw."""

OnLost = Callable[[str], None]
"""Told once, in one line, why a service can never draw again; every ticket has its answer by then."""


def end_process(problem: str) -> None:
    """End this process at once with LOST_EXIT_CODE: an `OnLost`.

    Nothing is cleaned up: libraries wait or abort where they free the memory of a device that is lost.
    """
    logging.getLogger(__name__).critical("the process ends with exit code %d: %s", LOST_EXIT_CODE, problem)
    logging.shutdown()
    os._exit(LOST_EXIT_CODE)
