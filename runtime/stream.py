"""The one stream that a pipeline works on, and how far the host may run ahead of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class OwnStream:
    """A GPU stream that is made on first use and kept; on a CPU there is none and nothing to wait for.

    Engines need a stream of their own, since TensorRT waits for the device at each call on the default one. And it
    must stay the same one: their scratch memory is free for the next run once this stream has come to it, and torch
    uses memory again on the stream that it was freed on.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None

    @contextmanager
    def run(self) -> Iterator[None]:
        """Work on the stream, after what the caller's stream holds already.

        The stream is idle when this ends, also where it ends in an exception: nothing of a run that was broken off is
        left to write into memory that the next one uses.
        """
        if self._device.type != "cuda":
            yield
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        self._stream.synchronize()  # a second Ctrl-C may have cut short the wait below
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            self._stream.synchronize()


class Pace:
    """Keeps at most two steps in flight on a GPU, so that a step that was not asked for is never on its way: one runs,
    and the next waits ready behind it. On a CPU a step is done when it returns."""

    IN_FLIGHT = 2

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: deque[torch.cuda.Event] = deque()

    def mark(self) -> None:
        """A step was enqueued on the current stream."""
        if self._cuda:
            mark = torch.cuda.Event()
            mark.record()
            self._marks.append(mark)

    def wait(self) -> None:
        """Until another step may be enqueued."""
        while len(self._marks) >= self.IN_FLIGHT:
            self._marks.popleft().synchronize()
