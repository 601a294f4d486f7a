"""What a run asks of a GPU, told by a stand-in: one stream, idle between runs, on the device that was named."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from fake_cuda import FakeCuda

from hybridstitch import HybridStitch
from hybridstitch.runtime.stream import OwnStream, Pace
from hybridstitch.runtime.timing import Stopwatch

SECOND = torch.device("cuda", 1)


@pytest.fixture
def cuda(monkeypatch):
    return FakeCuda(monkeypatch)


@pytest.fixture
def draw(cuda, monkeypatch):
    """Draws on the second GPU, with a stand-in for all that computes; `work` is done in its place."""
    pipe = HybridStitch.__new__(HybridStitch)
    pipe.device, pipe._stream, pipe._busy, pipe.engines = SECOND, OwnStream(SECOND), False, {}

    def draw(work):
        monkeypatch.setattr(pipe, "_begin", lambda batch, watch, parts: work(cuda.current[1]))
        with pipe.drawing([SimpleNamespace(size="128x128")], watch=SimpleNamespace()) as drawing:  # type: ignore[list-item]
            return drawing

    return draw


def begin(stream):
    assert not stream.busy, "the run before is still on its way"
    stream.busy = True
    return stream


def test_all_runs_of_a_pipeline_share_one_stream_that_follows_the_caller_s(draw, cuda):
    streams = [draw(begin) for _ in range(3)]
    assert cuda.streams == [streams[0]]
    assert streams[0].device == SECOND
    assert set(streams) == {streams[0]}
    assert cuda.events == ["own0 after default1"] * 3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_run_that_was_broken_off_leaves_the_stream_idle_before_the_next_begins(draw, cuda, error):
    def break_off(stream):
        begin(stream)
        raise error

    with pytest.raises((Exception, KeyboardInterrupt)):
        draw(break_off)
    assert [stream.busy for stream in cuda.streams] == [False]
    draw(begin)
    assert len(cuda.streams) == 1
    assert cuda.current[1].name == "default1"


def test_a_stream_that_nobody_waited_for_is_waited_for_before_the_next_run(draw, cuda):
    draw(begin).busy = True  # as if the wait itself had been interrupted
    draw(begin)


def test_a_pipeline_that_never_runs_makes_no_stream(cuda):
    OwnStream(SECOND)
    with OwnStream(torch.device("cpu")).run():
        assert not cuda.streams


def test_the_time_is_taken_on_the_gpu_that_was_named(cuda):
    watch = Stopwatch(SECOND)
    with watch.engine("large"):
        pass
    watch.lap("large")
    timing = watch.finish()
    assert cuda.events == ["time on default1"] * 5 + ["wait for cuda:1"]
    assert (timing.total, timing.engines["large"].calls) == (1.0, 1)


def test_at_most_two_steps_are_in_flight(cuda):
    stream = cuda.current[0]
    pace = Pace(torch.device("cuda", 0))
    most = 0
    for _ in range(9):
        stream.enqueue()
        pace.mark()
        most = max(most, stream.in_flight)
        pace.wait()
    assert most == 2
    assert stream.in_flight == 1  # what was asked for last


def test_a_run_that_was_aborted_leaves_nothing_enqueued(draw, cuda):
    def enqueue(stream):
        for _ in range(5):
            stream.enqueue()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(enqueue)
    assert [stream.in_flight for stream in cuda.streams] == [0]
