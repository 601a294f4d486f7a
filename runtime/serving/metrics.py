"""Every metric of a service, written down once: each front shows the same ones by the same names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
