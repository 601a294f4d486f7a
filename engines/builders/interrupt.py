"""Long native calls that Ctrl-C can end.

Python runs signal handlers between two bytecodes of the main thread: while that thread sits in a builder it would not
notice Ctrl-C for minutes. So the builder runs in a thread of its own and the main thread waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def interruptible(work: Callable[[], Result], cancel: Callable[[], None]) -> Result:
    """Run `work` in a thread and wait; on Ctrl-C call `cancel`, wait for `work` to end, and raise KeyboardInterrupt.

    Raises:
        whatever `work` raises.
    """
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as failure:  # carried over to the thread that waits
            failures.append(failure)

    worker = threading.Thread(target=run, name="builder", daemon=True)
    try:
        worker.start()
        while worker.is_alive():
            worker.join(timeout=0.2)
    except KeyboardInterrupt:
        cancel()
        if worker.is_alive():
            worker.join()
        raise
    if failures:
        raise failures[0]
    return results[0]
