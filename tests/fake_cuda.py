"""A stand-in for what a run uses of torch.cuda: two GPUs whose streams note what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

NAMES = ("NVIDIA L4", "NVIDIA H200")


class FakeCuda:
    """events: what was asked, in order. streams: those that were made. current: a stream's name by GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.streams: list[Stream] = []
        self.current = [Stream(self, torch.device("cuda", index), f"default{index}") for index in range(len(NAMES))]
        for name, stand_in in {
            "is_available": lambda: True,
            "device_count": lambda: len(NAMES),
            "current_device": lambda: 0,
            "get_device_name": lambda device=0: NAMES[index_of(device)],
            "get_device_capability": lambda device=0: [(8, 9), (9, 0)][index_of(device)],
            "Stream": self._make,
            "Event": lambda enable_timing=False: Event(self),
            "stream": self._enter,
            "current_stream": lambda device=None: self.current[index_of(device)],
            "synchronize": lambda device=None: self.events.append(f"wait for cuda:{index_of(device)}"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    def _make(self, device: torch.device) -> Stream:
        stream = Stream(self, device, f"own{len(self.streams)}")
        self.streams.append(stream)
        return stream

    @contextmanager
    def _enter(self, stream: Stream) -> Iterator[None]:
        index = index_of(stream.device)
        before, self.current[index] = self.current[index], stream
        try:
            yield
        finally:
            self.current[index] = before


class Stream:
    """busy: whether work was put on it since anyone waited for it. in_flight: the steps that nobody waited for."""

    def __init__(self, cuda: FakeCuda, device: torch.device, name: str) -> None:
        self.cuda, self.device, self.name, self.busy = cuda, device, name, False
        self.enqueued = self.done = 0

    @property
    def in_flight(self) -> int:
        return self.enqueued - self.done

    def enqueue(self) -> None:
        self.enqueued += 1

    def synchronize(self) -> None:
        self.busy, self.done = False, self.enqueued

    def wait_stream(self, other: Stream) -> None:
        self.cuda.events.append(f"{self.name} after {other.name}")


class Event:
    """Reached once all that was on its stream when it was recorded is done."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.stream, self.place = cuda.current[0], 0

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or self.cuda.current[0]
        self.place = self.stream.enqueued
        self.cuda.events.append(f"time on {self.stream.name}")

    def synchronize(self) -> None:
        self.stream.done = max(self.stream.done, self.place)

    def elapsed_time(self, end: Event) -> float:
        return 1000.0


def index_of(device: torch.device | int | None) -> int:
    """Of a GPU; the current one is cuda:0."""
    return device if isinstance(device, int) else (device.index or 0) if device is not None else 0
