"""Where the time of a run went: seconds and calls of each stage and of each engine."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch


@dataclass
class TimeSpent:
    """Seconds spent in something, and how often it ran."""

    calls: int = 0
    seconds: float = 0.0


@dataclass
class Timing:
    """A run's time. `stages`: text, large, hybrid, small, decode (a stage's calls are its
    steps), and in low memory load. `engines`: each
    engine over all stages. `total` is wall time from prompt to picture, in seconds."""

    stages: dict[str, TimeSpent] = field(default_factory=dict)
    engines: dict[str, TimeSpent] = field(default_factory=dict)
    total: float = 0.0

    @property
    def overhead(self) -> float:
        """The share of the run that no engine was running in."""
        running = sum(spent.seconds for spent in self.engines.values())
        return max(0.0, 1 - running / self.total) if self.total else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "overhead": self.overhead}

    def __str__(self) -> str:
        lines = [f"{'':21} {'calls':>5} {'seconds':>8} {'share':>6}"]
        for title, group in (("stage", self.stages), ("engine", self.engines)):
            for name, spent in group.items():
                share = spent.seconds / self.total if self.total else 0.0
                lines.append(f"{title:6} {name:14} {spent.calls:5d} {spent.seconds:8.3f} {share:6.1%}")
        return "\n".join([*lines, f"{'total':21} {'':5} {self.total:8.3f} {1:6.1%}"])


class Stopwatch:
    """Fills a `Timing`. On a GPU it records events on the device's current stream and reads them at the end, so that
    nothing waits in between."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        self._spans: list[tuple[str, str, Any, Any]] = []
        self._start = self._last = self.now()

    def engine(self, name: str) -> AbstractContextManager[None]:
        """Count what runs inside as one call of an engine."""
        return _EngineCall(self, name)

    def lap(self, stage: str) -> None:
        """Count the time since the last lap as one call of a stage."""
        now = self.now()
        self._spans.append(("stages", stage, self._last, now))
        self._last = now

    def finish(self) -> Timing:
        """Wait for the device and add everything up."""
        end = self.now()
        if self._cuda:
            torch.cuda.synchronize(self._device)
        timing = Timing(total=self._between(self._start, end))
        for group, name, start, stop in self._spans:
            spent = getattr(timing, group).setdefault(name, TimeSpent())
            spent.calls += 1
            spent.seconds += self._between(start, stop)
        return timing

    def add(self, group: str, name: str, start: Any) -> None:
        """Count the time since `start` as one call."""
        self._spans.append((group, name, start, self.now()))

    def now(self) -> Any:
        """A point in time, of the device."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, start: Any, stop: Any) -> float:
        return start.elapsed_time(stop) / 1000 if self._cuda else stop - start


class _EngineCall(AbstractContextManager[None]):
    """A class of its own, since a generator takes 20 us more to wake after an engine has had the caches."""

    __slots__ = ("_name", "_start", "_watch")

    def __init__(self, watch: Stopwatch, name: str) -> None:
        self._watch, self._name = watch, name

    def __enter__(self) -> None:
        self._start = self._watch.now()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._watch.add("engines", self._name, self._start)
