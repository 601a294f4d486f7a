"""What a run asks of a GPU, told by a stand-in: one stream, idle between runs, on the device that was named."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import FakeCuda

from hybridstitch.method.size import Size
from hybridstitch.pairs.plans import make_plan
from hybridstitch.runtime.result import Batch
from hybridstitch.runtime.stream import OwnStream
from hybridstitch.runtime.timing import Stopwatch

SECOND = torch.device("cuda", 1)


@pytest.fixture
def cuda(monkeypatch):
    return FakeCuda(monkeypatch)


@pytest.fixture
def draw(pipe, cuda, monkeypatch):
    """Draws on the second GPU; `work` is done in place of the engines' work."""
    monkeypatch.setattr(pipe, "device", SECOND)
    monkeypatch.setattr(pipe, "_stream", OwnStream(SECOND), raising=False)
    batch = Batch(("a star",), ("",), (0,), Size(128, 128), make_plan(pipe.recipe))

    def draw(work):
        monkeypatch.setattr(pipe, "_draw", lambda *_: work(cuda.current[1]))
        return pipe.draw(batch, watch=None)

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
