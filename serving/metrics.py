"""Every metric of a service, written down once: each front shows the same ones by the same names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hybridstitch.runtime.request import Request

from .interface import PictureService
from .observer import Observer


@dataclass(frozen=True)
class Metric:
    """kind: Prometheus's type. buckets: upper ends, of a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


READY = Metric("hybridstitch_ready", "gauge", "1: a real inference succeeded lately")
RUNNING = Metric("hybridstitch_pictures_running", "gauge", "pictures that are being drawn")
WAITING = Metric("hybridstitch_pictures_waiting", "gauge", "pictures that wait for their turn")
REFUSED = Metric("hybridstitch_pictures_refused_total", "counter", "pictures that were not taken", ("kind",))
FAILED = Metric("hybridstitch_pictures_failed_total", "counter", "pictures that were taken and not drawn", ("kind",))
LATENCY = Metric(
    "hybridstitch_picture_seconds",
    "histogram",
    "from a picture's admission to its end",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
STAGE = Metric(
    "hybridstitch_stage_seconds",
    "histogram",
    "a batch's time in a stage: text, large, hybrid, small, preview, decode",
    ("stage",),
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BATCH = Metric("hybridstitch_batch_pictures", "histogram", "pictures drawn together", buckets=(1, 2, 4, 8, 16, 32, 64))
METRICS = (READY, RUNNING, WAITING, REFUSED, FAILED, LATENCY, STAGE, BATCH)


def gauges(service: PictureService) -> dict[Metric, Callable[[], float]]:
    """What reads each gauge of a service."""
    return {
        READY: lambda: service.ready,
        RUNNING: lambda: service.running,
        WAITING: lambda: service.waiting,
    }


class MetricsObserver(Observer, ABC):
    """Turns what a service tells into values of metrics; a front says where they go."""

    @abstractmethod
    def note(self, metric: Metric, value: float, label: str = "") -> None:
        """Add to a counter, or observe in a histogram. label: the value of the metric's label, if it has one."""

    def refused(self, kind: str) -> None:
        self.note(REFUSED, 1, kind)

    def began(self, batch_size: int) -> None:
        self.note(BATCH, batch_size)

    def stage(self, name: str, seconds: float) -> None:
        self.note(STAGE, seconds, name)

    def finished(self, request: Request, seconds: float) -> None:
        self.note(LATENCY, seconds)

    def failed(self, request: Request, kind: str) -> None:
        self.note(FAILED, 1, kind)
