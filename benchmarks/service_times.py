"""What single pictures of the demo pair take in a service with nothing else to do: the default of `capacity`.

    python -m benchmarks.service_times --save        hybrid and large, in each size, in turns
    taskset -c 0 python -m benchmarks.service_times --clock cpu --save      the same on a machine that is busy

The second counts the process's CPU seconds: it leaves out the turns that others have on the core, though not what they
do to its caches. So it wants one core: on several, CPU seconds are not the time that passes. Needs `make engines`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.machine import save
from hybridstitch.evaluation.cases import DEMO_CASES
from hybridstitch.serving import Service

Kind = dict[str, Any]

KINDS: dict[str, Kind] = {
    f"{method}-{size}": {"method": method, "size": size}
    for method, size in product(("hybrid", "large"), ("128x128", "160x96", "96x160"))
}
"""Keyword arguments of `Service.resolve`, by name; what is not given is the recipe's."""


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def measure(
    service: Service, kinds: Mapping[str, Kind], repetitions: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds from a request to its picture, by kind, in turns of the kinds; a first turn is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in track(range(-1, repetitions), transient=True):
        case = DEMO_CASES[turn % len(DEMO_CASES)]
        for name, kind in kinds.items():
            request = service.resolve(case.prompt, seed=case.seed, **kind)
            start = clock()
            service.generate(request)
            if turn >= 0:
                times[name].append(round(clock() - start, 4))
    return times


def described(kinds: Mapping[str, Kind], times: Mapping[str, list[float]]) -> dict[str, Any]:
    """In the form that `capacity --service-times` reads."""
    return {"kinds": {name: {**kind, "seconds": times[name]} for name, kind in kinds.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=Path, default=Path("build/demo/onnxruntime"))
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/service-times.json")
    options = parser.parse_args()
    if options.clock == "cpu" and len(os.sched_getaffinity(0)) > 1:
        parser.error("--clock cpu wants one core: taskset -c 0 python -m benchmarks.service_times --clock cpu")
    with Service.load("demo", engines=options.engines) as service:
        times = measure(service, KINDS, options.repetitions, CLOCKS[options.clock])
    measured = {"clock": options.clock, **described(KINDS, times)}
    if options.save:
        print(save("service-times", "benchmarks.service_times", measured))
    else:
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
