"""How many replicas a rate of requests takes: a queueing model, and the search for the least that keeps a p95.

Requests arrive at random (Poisson) at one queue before c replicas, each of which draws one picture at a time: M/G/c.
Nobody is refused and nobody leaves. Its mean wait is that of M/M/c (Erlang C) times (1 + v)/2, v being the squared
coefficient of variation of the service times: the Allen-Cunneen approximation for Poisson arrivals (A. O. Allen,
Probability, Statistics, and Queueing Theory with Computer Science Applications, 2nd ed., 1990), which Lee and Longton
gave for M/G/c in 1959. With one replica it is exact (Pollaczek-Khinchine).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybridstitch.method.errors import HybridStitchError

from .service_times import Workload
from .simulation import Simulated, simulate

MOST_REPLICAS = 10_000
SHARE = 0.95
ROWS_AROUND = 2
"""Rows of the table before and after the answers."""


@dataclass(frozen=True)
class Predicted:
    """Seconds, in the long run. waits: share of the requests that wait at all. wait: mean. p95: end to end."""

    waits: float
    wait: float
    p95: float


@dataclass(frozen=True)
class Row:
    """A number of replicas, and what it comes to."""

    replicas: int
    utilisation: float
    model: Predicted
    simulation: Simulated


@dataclass(frozen=True)
class Capacity:
    """The answer. by_model, by_simulation: the least replicas that keep the p95, each on its own account."""

    by_model: int
    by_simulation: int
    rows: list[Row]

    @property
    def replicas(self) -> int:
        """The more careful of the two."""
        return max(self.by_model, self.by_simulation)


def erlang_c(replicas: int, load: float) -> float:
    """The share of requests that wait in M/M/c.

    Args:
        load: arrivals a second times mean seconds of service, in Erlang; under `replicas`.
    """
    blocked = 1.0  # Erlang B, by its recursion over the number of servers, which cannot overflow
    for servers in range(1, replicas + 1):
        blocked = load * blocked / (servers + load * blocked)
    return blocked / (1 - load / replicas * (1 - blocked))


def predict(work: Workload, rate: float, replicas: int) -> Predicted:
    """What the model says of a rate (requests a second) that `replicas` can serve.

    The wait of those that wait is taken as exponential, as it is in M/M/c; a request's time is its wait and, apart
    from it, a service time of the workload.
    """
    load = rate * work.mean
    waits = erlang_c(replicas, load)
    longer = (1 + work.variation) / 2 * work.mean / (replicas - load)  # mean wait of those that wait
    low, high = work.quantile(SHARE), float(work.seconds[-1]) + longer * math.log(max(waits / (1 - SHARE), 1)) + 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        left = middle - work.seconds
        tail = work.weights @ np.where(left < 0, 1.0, waits * np.exp(-np.maximum(left, 0) / longer))
        low, high = (low, middle) if tail <= 1 - SHARE else (middle, high)
    return Predicted(waits, waits * longer, high)


def plan_capacity(work: Workload, rate: float, p95: float, *, seed: int = 0) -> Capacity:
    """The least replicas that answer 95 % of the requests within `p95` seconds, by model and by simulation.

    Raises:
        HybridStitchError: the pictures alone take longer, or it takes more than MOST_REPLICAS.
    """
    if work.quantile(SHARE) > p95:
        raise HybridStitchError(
            f"no number of replicas gives a p95 of {p95:g} s: the pictures of this mix alone take "
            f"{work.quantile(SHARE):.3g} s at p95"
        )
    least = math.floor(rate * work.mean) + 1
    if least > MOST_REPLICAS:
        raise HybridStitchError(f"it takes at least {least} replicas; at most {MOST_REPLICAS} are reckoned with")
    simulated: dict[int, Simulated] = {}

    def simulation(replicas: int) -> Simulated:
        if replicas not in simulated:
            simulated[replicas] = simulate(work, rate, replicas, seed=seed)
        return simulated[replicas]

    by_model = _least(lambda replicas: predict(work, rate, replicas).p95 <= p95, least, least)
    by_simulation = _least(lambda replicas: simulation(replicas).p95 <= p95, least, by_model)
    ends = sorted((by_model, by_simulation))
    shown = range(max(least, ends[0] - ROWS_AROUND), min(ends[1] + ROWS_AROUND, MOST_REPLICAS) + 1)
    rows = [Row(c, rate * work.mean / c, predict(work, rate, c), simulation(c)) for c in shown]
    return Capacity(by_model, by_simulation, rows)


def _least(enough: Callable[[int], bool], low: int, guess: int) -> int:
    """The least number from `low` on that is enough, where all above it are; `guess` is tried first.

    Raises:
        HybridStitchError: none up to MOST_REPLICAS.
    """
    few, high, stride = low - 1, guess, 1
    while not enough(high):
        if high == MOST_REPLICAS:
            raise HybridStitchError(f"{MOST_REPLICAS} replicas do not do it; more are not reckoned with")
        few, high, stride = high, min(high + stride, MOST_REPLICAS), stride * 2
    stride = 1
    while few < high - stride and enough(high - stride):
        high, stride = high - stride, stride * 2
    few = max(few, high - stride)
    while high - few > 1:
        middle = (few + high) // 2
        few, high = (few, middle) if enough(middle) else (middle, high)
    return high
