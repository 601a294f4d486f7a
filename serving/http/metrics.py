"""What GET /metrics shows, and the observer that counts it."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hybridstitch.serving.interface import PictureService
from hybridstitch.serving.metrics import METRICS, Metric, MetricsObserver, gauges

_KINDS = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class Metrics(MetricsObserver):
    """Counts in a registry of its own, so that one process may hold several servers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._made = {metric: _made(metric, self._registry) for metric in METRICS}

    def watch(self, service: PictureService) -> None:
        """Read the gauges from a service whenever they are asked for, and count what it tells."""
        for metric, value in gauges(service).items():
            self._made[metric].set_function(value)
        service.observer = self

    def exposition(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)

    def note(self, metric: Metric, value: float, label: str = "") -> None:
        made = self._made[metric]
        series = made.labels(label) if metric.labels else made
        if metric.kind == "counter":
            series.inc(value)
        else:
            series.observe(value)


def _made(metric: Metric, registry: CollectorRegistry) -> Any:
    more: dict[str, Any] = {"buckets": metric.buckets} if metric.buckets else {}
    return _KINDS[metric.kind](metric.name, metric.help, metric.labels, registry=registry, **more)
