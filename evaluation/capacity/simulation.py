"""The model's queue, request by request: Poisson arrivals, one queue, c replicas, first come first served."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .service_times import Workload

RUNS = 5
WARM_UP = 0.1
"""The share of a run that is left out: it begins with nobody waiting."""


@dataclass(frozen=True)
class Simulated:
    """Seconds, over all runs. wait: mean. p95: end to end, mean of the runs'. error: standard error of that mean."""

    wait: float
    p95: float
    error: float


def simulate(work: Workload, rate: float, replicas: int, *, seed: int = 0, requests: int | None = None) -> Simulated:
    """The queue in the long run.

    Two calls of the same seed and rate meet the same arrivals and service times, whatever the number of replicas: what
    they differ in is the replicas' doing.

    Args:
        rate: requests a second. requests: of a run (20,000, and more for many replicas, which take longer to fill).
    """
    requests = requests or max(20_000, 50 * replicas)
    skipped = int(requests * WARM_UP)
    waits, highs = [], []
    for run in range(RUNS):
        random = np.random.default_rng([seed, run])
        wait, service = one_run(work, rate, replicas, requests, random)
        waits.append(float(wait[skipped:].mean()))
        highs.append(float(np.quantile((wait + service)[skipped:], 0.95)))
    return Simulated(float(np.mean(waits)), float(np.mean(highs)), float(np.std(highs, ddof=1)) / math.sqrt(RUNS))


def one_run(
    work: Workload, rate: float, replicas: int, requests: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of wait and of service of each request, [requests] each, from an empty system on."""
    arrivals = np.cumsum(random.exponential(1 / rate, requests))
    services = random.choice(work.seconds, size=requests, p=work.weights)
    return waits(arrivals, services, replicas), services


def waits(arrivals: NDArray[np.float64], services: NDArray[np.float64], replicas: int) -> NDArray[np.float64]:
    """Seconds that each request waits for a free replica. arrivals, services: [requests], arrivals ascending."""
    free = [0.0] * replicas  # when each replica is free again; a heap
    seconds = np.empty(len(arrivals))
    for place, (arrival, service) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        start = max(arrival, free[0])
        heapq.heapreplace(free, start + service)
        seconds[place] = start - arrival
    return seconds
