"""The service's metrics on Triton's own /metrics, by its Python backend's custom metrics (since Triton 23.05)."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # the server has it

from hybridstitch.runtime.request import Request
from hybridstitch.serving.interface import PictureService
from hybridstitch.serving.metrics import METRICS, WAITING, Metric, MetricsObserver, gauges

logger = logging.getLogger(__name__)

REFRESH = 1.0
"""Seconds between two looks at the gauges while nothing else is counted."""


class TritonMetrics(MetricsObserver):
    """Counts what a service tells.

    One thread makes every call to the server: each of them waits for it, and two calls on one metric at a time would
    overwrite each other's message.
    """

    def __init__(self, service: PictureService, labels: Mapping[str, str]) -> None:
        """
        Args:
            labels: of every series; they tell this instance of a model from all others.
        """
        self._labels = dict(labels)
        self._gauges = gauges(service)
        self._shown: dict[Metric, float] = {}
        self._families = {metric: _family(metric) for metric in METRICS}
        self._series: dict[tuple[Metric, str], Any] = {}
        for metric in METRICS:
            if not metric.labels:
                self._of(metric)
        self._told: queue.SimpleQueue[tuple[Metric, float, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._count, name="metrics", daemon=True)
        self._thread.start()
        service.observer = self

    def close(self) -> None:
        """Count what was told, and remove this instance's series from the server."""
        self._told.put(None)
        self._thread.join()
        self._series.clear()  # before their families, as the backend asks for
        self._families.clear()

    def queued(self, request: Request) -> None:
        self._told.put((WAITING, 0, ""))

    def note(self, metric: Metric, value: float, label: str = "") -> None:
        self._told.put((metric, value, label))

    def _count(self) -> None:
        while True:
            try:
                told = self._told.get(timeout=REFRESH)
                if told is None:
                    return
                self._add(*told)
            except queue.Empty:
                pass
            except Exception:
                logger.exception("a metric was not counted")
            self._refresh()

    def _add(self, metric: Metric, value: float, label: str) -> None:
        if metric.kind == "counter":
            self._of(metric, label).increment(value)
        elif metric.kind == "histogram":
            self._of(metric, label).observe(value)

    def _refresh(self) -> None:
        for metric, read in self._gauges.items():
            value = float(read())
            if self._shown.get(metric) != value:
                try:
                    self._of(metric).set(value)
                    self._shown[metric] = value
                except Exception:
                    logger.exception("the gauge %s was not set", metric.name)

    def _of(self, metric: Metric, label: str = "") -> Any:
        """The series of a metric with one value of its label, made when it is first needed."""
        key = metric, label
        if key not in self._series:
            labels = self._labels | dict.fromkeys(metric.labels, label)
            buckets = {"buckets": list(map(float, metric.buckets))} if metric.buckets else {}
            self._series[key] = self._families[metric].Metric(labels=labels, **buckets)
        return self._series[key]


def show_metrics(service: PictureService, labels: Mapping[str, str]) -> TritonMetrics | None:
    """Count a service's pictures in the server; None: this server takes no such metrics, which the log tells."""
    try:
        return TritonMetrics(service, labels)
    except Exception as error:
        logger.warning("no metrics of the service: this Triton does not take them (%s)", error)
        return None


def _family(metric: Metric) -> Any:
    kind = getattr(pb_utils.MetricFamily, metric.kind.upper())
    return pb_utils.MetricFamily(name=metric.name, description=metric.help, kind=kind)
