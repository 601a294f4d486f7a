"""What GET /metrics shows, and the observer that counts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hybridstitch.runtime.request import Request
from hybridstitch.runtime.serving.contract import Draws
from hybridstitch.runtime.serving.metrics import (
    BATCH,
    FAILED,
    LATENCY,
    METRICS,
    READY,
    REFUSED,
    RUNNING,
    STAGE,
    WAITING,
    Metric,
)
from hybridstitch.runtime.serving.observer import Observer

_KINDS = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class Metrics(Observer):
    """Counts in a registry of its own, so that one process may hold several servers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._made = {metric: _made(metric, self._registry) for metric in METRICS}

    def watch(self, service: Draws) -> None:
        """Read the gauges from a service whenever they are asked for, and count what it tells."""
        gauges: dict[Metric, Callable[[], float]] = {
            READY: lambda: service.ready,
            RUNNING: lambda: service.running,
            WAITING: lambda: service.waiting,
        }
        for metric, value in gauges.items():
            self._made[metric].set_function(value)
        service.observer = self

    def exposition(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)

    def refused(self, kind: str) -> None:
        self._made[REFUSED].labels(kind).inc()

    def began(self, batch_size: int) -> None:
        self._made[BATCH].observe(batch_size)

    def stage(self, name: str, seconds: float) -> None:
        self._made[STAGE].labels(name).observe(seconds)

    def finished(self, request: Request, seconds: float) -> None:
        self._made[LATENCY].observe(seconds)

    def failed(self, request: Request, kind: str) -> None:
        self._made[FAILED].labels(kind).inc()


def _made(metric: Metric, registry: CollectorRegistry) -> Any:
    more: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
    return _KINDS[metric.kind](metric.name, metric.help, metric.labels, registry=registry, **more)
