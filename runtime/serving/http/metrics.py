"""Every metric of GET /metrics, written down once, and the observer that counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hybridstitch.runtime.request import Request
from hybridstitch.runtime.serving.contract import Draws
from hybridstitch.runtime.serving.observer import Observer


@dataclass(frozen=True)
class Metric:
    """kind: Prometheus's type. buckets: upper ends, of a histogram."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def made(self, registry: CollectorRegistry) -> Any:
        more: dict[str, Any] = {"buckets": self.buckets} if self.buckets else {}
        return self.kind(self.name, self.help, self.labels, registry=registry, **more)


READY = Metric("hybridstitch_ready", Gauge, "1: a real inference succeeded lately")
RUNNING = Metric("hybridstitch_pictures_running", Gauge, "pictures that are being drawn")
WAITING = Metric("hybridstitch_pictures_waiting", Gauge, "pictures that wait for their turn")
REFUSED = Metric("hybridstitch_pictures_refused_total", Counter, "pictures that were not taken", ("kind",))
FAILED = Metric("hybridstitch_pictures_failed_total", Counter, "pictures that were taken and not drawn", ("kind",))
LATENCY = Metric(
    "hybridstitch_picture_seconds",
    Histogram,
    "from a picture's admission to its end",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
STAGE = Metric(
    "hybridstitch_stage_seconds",
    Histogram,
    "a batch's time in a stage: text, large, hybrid, small, preview, decode",
    ("stage",),
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BATCH = Metric("hybridstitch_batch_pictures", Histogram, "pictures drawn together", buckets=(1, 2, 4, 8, 16, 32, 64))
METRICS = (READY, RUNNING, WAITING, REFUSED, FAILED, LATENCY, STAGE, BATCH)


class Metrics(Observer):
    """Counts in a registry of its own, so that one process may hold several servers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._made = {metric: metric.made(self._registry) for metric in METRICS}

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
