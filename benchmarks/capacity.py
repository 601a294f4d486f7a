"""A load test of one service beside what `capacity` predicts for it: Poisson arrivals at three utilisations.

    python -m benchmarks.capacity --save        300 requests at each; some minutes

The prediction is made twice: from service times measured alone before the load, as a user would, and from those of
the load itself, which shows what the queueing theory misses when the machine's speed is taken as known. So few requests
have a p95 that chance moves much; the range is what 90 of 100 simulated runs of as many requests lie in. Needs
`make engines`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.machine import save
from benchmarks.service_times import Kind, measure
from hybridstitch.evaluation.capacity.model import predict
from hybridstitch.evaluation.capacity.service_times import Workload, mixed
from hybridstitch.evaluation.capacity.simulation import one_run, simulate
from hybridstitch.evaluation.cases import DEMO_CASES
from hybridstitch.serving import Service

KINDS: dict[str, Kind] = {
    "hybrid-quick": {"method": "hybrid", "steps": 6, "large_steps": 2, "hybrid_steps": 2},
    "large": {"method": "large", "steps": 12},
}
SHARES = {"hybrid-quick": 0.7, "large": 0.3}
RUNS = 500


def load(service: Service, rate: float, requests: int, random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Send requests at random times, whatever the service does meanwhile.

    Returns:
        Of each request: seconds from its arrival to its answer, and of its service, [requests] each. One replica draws
        one after another, so a service begins at the arrival or at the answer before it, whichever is later.
    """
    names = random.choice(list(SHARES), size=requests, p=list(SHARES.values()))
    gaps = random.exponential(1 / rate, requests)
    answered = np.zeros(requests)
    tickets, arrivals = [], []
    due = time.monotonic()
    for place, (name, gap) in enumerate(zip(names, track(gaps.tolist(), transient=True), strict=True)):
        due += gap
        time.sleep(max(0.0, due - time.monotonic()))
        case = DEMO_CASES[place % len(DEMO_CASES)]
        ticket = service.submit(service.resolve(case.prompt, seed=case.seed, **KINDS[name]))

        def note(_ticket: Any, place: int = place) -> None:
            answered[place] = time.monotonic()

        ticket.add_done_callback(note)
        tickets.append(ticket)
        arrivals.append(due)
    for ticket in tickets:
        ticket.result(600)
    arrived = np.array(arrivals)
    begun = np.maximum(arrived, np.concatenate([[0.0], answered[:-1]]))
    return {"seconds": answered - arrived, "service": answered - begun}


def predicted(work: Workload, rate: float, requests: int) -> dict[str, Any]:
    """By model and simulation in the long run, and the range of a run of so few requests."""
    random = np.random.default_rng(0)
    runs = [sum(one_run(work, rate, 1, requests, random)) for _ in range(RUNS)]
    low, middle, high = np.quantile([np.quantile(run, 0.95) for run in runs], [0.05, 0.5, 0.95])
    figures: dict[str, Any] = {"utilisation": rate * work.mean, "service_mean": work.mean}
    if rate * work.mean < 1:
        figures |= {"p95_model": predict(work, rate, 1).p95, "p95_simulation": simulate(work, rate, 1).p95}
    return {**figures, "p95_of_such_a_run": [low, middle, high]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=Path, default=Path("build/demo/onnxruntime"))
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--utilisations", type=float, nargs="+", default=[0.5, 0.7, 0.85])
    parser.add_argument("--repetitions", type=int, default=40, help="pictures of each kind, alone")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/capacity.json")
    options = parser.parse_args()
    with Service.load("demo", engines=options.engines, max_queue=options.requests) as service:
        rows = [one_load(service, options, place, share) for place, share in enumerate(options.utilisations)]
    measured = {"kinds": KINDS, "shares": SHARES, "requests": options.requests, "loads": rows}
    if options.save:
        save("capacity", "benchmarks.capacity", measured)
    print(json.dumps(measured, indent=1))


def one_load(service: Service, options: argparse.Namespace, seed: int, utilisation: float) -> dict[str, Any]:
    """Measure pictures alone, then under a load that should come to a utilisation; predict the same."""
    times = measure(service, KINDS, options.repetitions)
    work = mixed({name: tuple(seconds) for name, seconds in times.items()}, SHARES)
    rate = utilisation / work.mean
    measured = load(service, rate, options.requests, np.random.default_rng([1, seed]))
    service_times = np.sort(measured["service"])
    during = Workload(service_times, np.full(len(service_times), 1 / len(service_times)))
    return {
        "rate": rate,
        "measured": {"p95": float(np.quantile(measured["seconds"], 0.95)), "mean": float(measured["seconds"].mean())},
        "predicted_from_times_alone": predicted(work, rate, options.requests),
        "predicted_from_times_under_load": predicted(during, rate, options.requests),
    }


if __name__ == "__main__":
    main()
