"""Load on each front: every request is answered, every picture is right, memory is flat; latency and throughput.

    python -m benchmarks.serving            1,000 requests, 32 clients, a queue of 8, on each front

A client that is refused waits a second and goes on with its next request: refusals are answers too. Pictures are
compared byte for byte with those of `HybridStitch` alone. One caller in a loop is measured too, and what a batch wins.
Needs `make engines` and `make cpp`.
"""

from __future__ import annotations

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import fronts
from benchmarks.fronts import Front, Wanted
from benchmarks.machine import save
from hybridstitch import HybridStitch
from hybridstitch.evaluation.cases import DEMO_CAPTIONS

SETTINGS = (("method", "hybrid"), ("steps", 6), ("large_steps", 2), ("hybrid_steps", 2))
FRONTS = ("embedded", "cpp", "http")
PAUSE = 1.0  # seconds of a client that was refused: what Retry-After says


def pictures(engines: Path, count: int) -> dict[Wanted, bytes]:
    """Some requests, and the RGB bytes that each must come to."""
    asked = product(range(count), DEMO_CAPTIONS)
    requests = [Wanted(caption, seed, "128x128", SETTINGS) for seed, caption in asked][:count]
    with HybridStitch.load("demo", engines=engines) as pipe:
        return {
            each: pipe(each.prompt, seed=each.seed, size=each.size, **dict(each.settings)).images[0].tobytes()
            for each in requests
        }


def load(front: Front, expected: dict[Wanted, bytes], requests: int, clients: int) -> dict[str, Any]:
    """Send requests from many clients at once.

    Returns:
        How many were drawn and refused, seconds at p50, p95 and p99 of those drawn, pictures a second, and memory of
        the process (MiB) when a tenth was done and at the end.

    Raises:
        RuntimeError: a picture that is not the expected one, or no answer.
    """
    order, lock = iter(range(requests)), threading.Lock()
    seconds: list[float] = []
    memory: list[float] = []
    refused, kinds = 0, list(expected)

    def client() -> None:
        nonlocal refused
        while True:
            with lock:
                place = next(order, None)
                if place is None:
                    return
                if place == requests // 10:
                    memory.append(resident(front.process))
            request, start = kinds[place % len(kinds)], time.perf_counter()
            drawn = front.draw(request)
            if drawn is None:
                with lock:
                    refused += 1
                time.sleep(PAUSE)
                continue
            if drawn != expected[request]:
                raise RuntimeError(f"another picture than expected of {request}")
            with lock:
                seconds.append(time.perf_counter() - start)

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client) for _ in range(clients)]:
            done.result()
    spent = time.perf_counter() - start
    memory.append(resident(front.process))
    if len(seconds) + refused != requests:
        raise RuntimeError(f"{requests - len(seconds) - refused} requests got no answer")
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {
        "requests": requests,
        "clients": clients,
        "drawn": len(seconds),
        "refused": refused,
        "p50": round(cuts[49], 3),
        "p95": round(cuts[94], 3),
        "p99": round(cuts[98], 3),
        "pictures_per_second": round(len(seconds) / spent, 2),
        "memory_mib": [round(each, 1) for each in memory],
    }


def alone(front: Front, expected: dict[Wanted, bytes], count: int) -> float:
    """Pictures a second of one caller in a loop."""
    kinds, start = list(expected), time.perf_counter()
    for place in range(count):
        front.draw(kinds[place % len(kinds)])
    return count / (time.perf_counter() - start)


def resident(process: int) -> float:
    """MiB of a process that are in memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def batching(engines: Path, expected: dict[Wanted, bytes], count: int) -> dict[str, float]:
    """Pictures a second of the pipeline itself, by the number that is drawn together."""
    kinds = list(expected)
    with HybridStitch.load("demo", engines=engines) as pipe:
        rates = {}
        for size in (1, 2, 4):
            requests = [
                pipe.requests.resolve(each.prompt, seed=each.seed, size=each.size, **dict(each.settings))
                for each in (kinds * size)[:size]
            ]
            pipe.run(requests)
            start = time.perf_counter()
            for _ in range(max(1, count // size)):
                pipe.run(requests)
            rates[str(size)] = round(max(1, count // size) * size / (time.perf_counter() - start), 2)
    return rates


def opened(name: str, engines: Path, queue: int) -> AbstractContextManager[Front]:
    return getattr(fronts, name)(engines, max_queue=queue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=Path, default=Path("build/demo/onnxruntime"))
    parser.add_argument("--fronts", nargs="+", choices=FRONTS, default=FRONTS)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/serving.json")
    options = parser.parse_args()
    expected = pictures(options.engines, 16)
    rows: dict[str, Any] = {}
    for name in track(options.fronts, transient=True):
        with opened(name, options.engines, options.queue) as front:
            calls = max(10, options.requests // 20)
            by_one = alone(front, expected, calls)
            rows[name] = load(front, expected, options.requests, options.clients)
            rows[name]["pictures_per_second_of_one_caller"] = round(by_one, 2)
    measured = {
        "settings": dict(SETTINGS),
        "queue": options.queue,
        "fronts": rows,
        "pictures_per_second_by_batch": batching(options.engines, expected, 24),
    }
    if options.save:
        save("serving", "benchmarks.serving", measured)
    show(measured)


def show(measured: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    columns = ("front", "drawn", "refused", "p50", "p95", "p99", "a second", "one caller", "MiB")
    for column in columns:
        table.add_column(column, justify="left" if column == "front" else "right")
    for name, row in measured["fronts"].items():
        memory = " -> ".join(f"{each:.0f}" for each in row["memory_mib"])
        times = [f"{row[cut]:.2f} s" for cut in ("p50", "p95", "p99")]
        rates = [f"{row[key]:.1f}" for key in ("pictures_per_second", "pictures_per_second_of_one_caller")]
        table.add_row(name, str(row["drawn"]), str(row["refused"]), *times, *rates, memory)
    console = Console(width=120)
    console.print(table)
    batches = ", ".join(f"{size}: {rate:.1f}" for size, rate in measured["pictures_per_second_by_batch"].items())
    console.print(f"pictures a second by batch: {batches}")


if __name__ == "__main__":
    main()
