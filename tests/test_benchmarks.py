"""The scripts behind the documents' figures do what they say, at a tiny size."""

import os
import threading
import time

import pytest

from benchmarks import batches, machine, picture_hashes, serving
from benchmarks.fronts import Wanted


def test_a_result_says_machine_versions_and_command(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["batches.py", "--repetitions", "2"])
    text = machine.save("one", "benchmarks.batches", {"batches": {}}).read_text()
    for word in ("processor", "cores", "torch", "python -m benchmarks.batches --repetitions 2"):
        assert word in text


def test_pictures_that_changed_or_came_or_went_are_named():
    before = {"large 128x128 1 of 1": "a", "small 128x128 1 of 1": "b", "gone": "c"}
    now = {"large 128x128 1 of 1": "a", "small 128x128 1 of 1": "x", "new": "d"}
    assert picture_hashes.differences(before, now) == ["gone", "new", "small 128x128 1 of 1"]
    assert not picture_hashes.differences(now, dict(now))


class Crowded:
    """A front that has room for two; every picture is its seed."""

    def __init__(self, wrong=False):
        self.process, self.wrong, self.places = os.getpid(), wrong, threading.Semaphore(2)

    def draw(self, wanted):
        if not self.places.acquire(blocking=False):
            return None
        time.sleep(0.002)
        self.places.release()
        return b"another" if self.wrong and wanted.seed == 2 else bytes([wanted.seed])


EXPECTED = {Wanted("a star", seed, "128x128", ()): bytes([seed]) for seed in range(4)}


def test_every_request_of_a_load_test_is_counted_as_drawn_or_refused(monkeypatch):
    monkeypatch.setattr(serving, "PAUSE", 0.001)
    found = serving.load(Crowded(), EXPECTED, requests=200, clients=8)
    assert found["drawn"] + found["refused"] == found["requests"] == 200
    assert found["drawn"] > 0 < found["refused"]
    assert 0.002 <= found["p50"] <= found["p95"] <= found["p99"]
    assert len(found["memory_mib"]) == 2


def test_a_load_test_ends_with_an_error_when_a_picture_is_another(monkeypatch):
    monkeypatch.setattr(serving, "PAUSE", 0.001)
    with pytest.raises(RuntimeError, match=r"another picture than expected of .*seed=2"):
        serving.load(Crowded(wrong=True), EXPECTED, requests=100, clients=2)


def test_batches_are_timed_and_compared_with_pictures_alone(pipe):
    found = batches.measure(pipe, (1, 2), repetitions=1, steps=2)
    assert found[1]["equal"]
    assert all(0 < row["seconds"] < 60 for row in found.values())
