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
            "Event": lambda enable_timing: Event(self),
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
    """busy: whether work was put on it since anyone waited for it."""

    def __init__(self, cuda: FakeCuda, device: torch.device, name: str) -> None:
        self.cuda, self.device, self.name, self.busy = cuda, device, name, False

    def synchronize(self) -> None:
        self.busy = False

    def wait_stream(self, other: Stream) -> None:
        self.cuda.events.append(f"{self.name} after {other.name}")


class Event:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def record(self, stream: Stream | None = None) -> None:
        self.cuda.events.append(f"time on {(stream or self.cuda.current[0]).name}")

    def elapsed_time(self, end: Event) -> float:
        return 1000.0


def index_of(device: torch.device | int | None) -> int:
    """Of a GPU; the current one is cuda:0."""
    return device if isinstance(device, int) else (device.index or 0) if device is not None else 0
