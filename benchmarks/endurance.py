"""Load for an hour on one service: whether its memory and its latency stay what they are.

    python -m benchmarks.endurance --save                       60 minutes of `hybridstitch-trt serve`
    python -m benchmarks.endurance --front cpp --minutes 600    a night of the C++ example
    python -m benchmarks.endurance --url http://127.0.0.1:8000 --pid 4711       of a service that runs already

Clients ask without a pause, one after the other; a picture that is not, byte for byte, the one of the first time ends
it. Each window has the memory of the process and the median latency. What they grow by is the median of the slopes
between any two windows, over the whole run, without its first tenth: one that is slow moves it little. Flat: memory
grows by at most 2 %, latency by at most 10 %. Exit code 1: it is not. Needs `make engines`, and for C++ `make cpp`.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import fronts
from benchmarks.fronts import Front, Http, Wanted
from benchmarks.machine import save
from benchmarks.serving import PAUSE, SETTINGS, resident
from hybridstitch.evaluation.cases import DEMO_CAPTIONS

TOLERANCES = {"memory_mib": 0.02, "p50": 0.10}
"""By how much of its median each may grow."""
WARMING = 0.1
"""The part of the windows, at the start, that the verdict leaves out."""
WANTED = tuple(Wanted(caption, seed, "128x128", SETTINGS) for seed, caption in enumerate(DEMO_CAPTIONS[:8]))
WINDOWS = 120


class Load:
    """Clients that ask a front without a pause, until it is over. All of it may be used from any thread.

    drawn: seconds of each picture since `take`. refused: pictures since then that the front did not take.
    """

    def __init__(self, front: Front) -> None:
        self._front, self._order = front, count()
        self._over, self._lock = threading.Event(), threading.Lock()
        self._first: dict[Wanted, bytes] = {}
        self._drawn: list[float] = []
        self._refused = 0

    def client(self) -> None:
        """Ask until it is over.

        Raises:
            RuntimeError: a picture that is another than before.
        """
        while not self._over.is_set():
            request, start = WANTED[next(self._order) % len(WANTED)], time.perf_counter()
            picture = self._front.draw(request)
            self._note(request, picture, time.perf_counter() - start)
            if picture is None:
                self._over.wait(PAUSE)

    def take(self) -> tuple[list[float], int]:
        """Seconds of the pictures that were drawn since the last call, and how many were refused."""
        with self._lock:
            drawn, self._drawn = self._drawn, []
            refused, self._refused = self._refused, 0
        return drawn, refused

    def end(self) -> None:
        self._over.set()

    def _note(self, request: Wanted, picture: bytes | None, seconds: float) -> None:
        with self._lock:
            if picture is None:
                self._refused += 1
            elif self._first.setdefault(request, picture) != picture:
                raise RuntimeError(f"another picture than before of {request}")
            else:
                self._drawn.append(seconds)


def endure(
    front: Front, seconds: float, clients: int, windows: int, memory: Callable[[int], float] = resident
) -> list[dict[str, Any]]:
    """Load a front for some time.

    Returns:
        For each window: minutes since the start, its memory in MiB, p50 and p95 in seconds, pictures drawn and refused.

    Raises:
        RuntimeError: a picture that is another than before, or a window without one.
    """
    load, rows, begin = Load(front), [], time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(load.client) for _ in range(clients)]
        try:
            for window in range(1, windows + 1):
                _wait_until(begin + seconds * window / windows, running)
                drawn, refused = load.take()
                if not drawn:
                    raise RuntimeError(f"no picture within {seconds / windows:.1f} s: give it more minutes")
                minutes = round((time.monotonic() - begin) / 60, 3)
                memory_mib = round(memory(front.process), 1)
                rows.append({"minutes": minutes, "memory_mib": memory_mib, **_latency(drawn), "refused": refused})
        finally:
            load.end()
    for each in running:
        each.result()
    return rows


def _wait_until(end: float, running: Sequence[Future[None]]) -> None:
    """Raises what ended a client meanwhile."""
    while time.monotonic() < end:
        time.sleep(min(0.5, max(0.0, end - time.monotonic())))
        for each in running:
            if each.done():
                each.result()


def _latency(seconds: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else [*seconds] * 19
    return {"p50": round(median(seconds), 4), "p95": round(cuts[18], 4), "drawn": len(seconds)}


def verdict(windows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of memory and latency: the median, what they grow by in the run (also as a share), and whether that is flat."""
    steady = windows[round(len(windows) * WARMING) :]
    minutes = np.array([window["minutes"] for window in steady])
    trends: dict[str, Any] = {}
    for name, tolerance in TOLERANCES.items():
        values = np.array([window[name] for window in steady])
        later, earlier = np.triu_indices(len(values), 1)[::-1]
        slope = float(np.median((values[later] - values[earlier]) / (minutes[later] - minutes[earlier])))
        middle = float(np.median(values))
        growth = slope * float(minutes[-1] - minutes[0])
        share = growth / middle
        trends[name] = {
            "median": round(middle, 4),
            "growth": round(growth, 4),
            "share": round(share, 4),
            "tolerance": tolerance,
            "flat": share <= tolerance,
        }
    return {**trends, "flat": all(each["flat"] for each in trends.values())}


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Front]:
    """The service that is named, or one that is started for this."""
    if options.url:
        yield Http(options.url.rstrip("/"), options.pid)
    else:
        with getattr(fronts, options.front)(options.engines, max_queue=16) as front:
            yield front


def show(windows: list[dict[str, Any]], judged: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("minutes", "MiB", "p50", "p95", "drawn", "refused"):
        table.add_column(column, justify="right")
    for window in windows[:: max(1, len(windows) // 12)]:
        times = [f"{window[cut]:.2f} s" for cut in ("p50", "p95")]
        counts = [str(window[name]) for name in ("drawn", "refused")]
        table.add_row(f"{window['minutes']:.1f}", f"{window['memory_mib']:.0f}", *times, *counts)
    console = Console(width=120)
    console.print(table)
    for name, words in (("memory_mib", "memory"), ("p50", "latency")):
        row = judged[name]
        state = "flat" if row["flat"] else "NOT flat"
        console.print(f"{words}: {state}: {row['share']:+.1%} in the run, at most {row['tolerance']:+.0%} is flat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--front", choices=("http", "cpp", "embedded"), default="http")
    parser.add_argument("--engines", type=Path, default=Path("build/demo/onnxruntime"))
    parser.add_argument("--url", help="of `hybridstitch-trt serve` that runs already; takes --pid")
    parser.add_argument("--pid", type=int, help="its process (with --restart: the worker's), whose memory is watched")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/endurance.json")
    options = parser.parse_args()
    if (options.url is None) != (options.pid is None):
        parser.error("--url and --pid go together")
    if not 0 < options.minutes < 1e6 or options.clients < 1:
        parser.error("--minutes must be over 0, and --clients at least 1")
    with opened(options) as front:
        windows = endure(front, options.minutes * 60, options.clients, WINDOWS)
    judged = verdict(windows)
    if options.save:
        save("endurance", "benchmarks.endurance", {"verdict": judged, "clients": options.clients, "windows": windows})
    show(windows, judged)
    sys.exit(0 if judged["flat"] else 1)


if __name__ == "__main__":
    main()
