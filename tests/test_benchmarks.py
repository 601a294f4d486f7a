"""The scripts behind the documents' figures do what they say, at a tiny size."""

import json
import os
import threading
import time

import numpy as np
import pytest

from benchmarks import batches, capacity, machine, picture_hashes, service_times, serving
from benchmarks.fronts import Wanted
from hybridstitch.evaluation.capacity.service_times import read_service_times
from hybridstitch.serving import Service, ServiceOptions


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

    def draw(self, request):
        if not self.places.acquire(blocking=False):
            return None
        time.sleep(0.002)
        self.places.release()
        return b"another" if self.wrong and request.seed == 2 else bytes([request.seed])


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


@pytest.fixture
def one_service(pipe, monkeypatch):
    """A service of the pipeline that all tests share, which outlives it."""
    monkeypatch.setattr(pipe, "close", lambda: None)
    with Service(pipe, ServiceOptions(warm_up=False, max_queue=99)) as service:
        yield service


def test_service_times_are_in_the_form_that_capacity_reads(one_service, tmp_path):
    kinds = {"quick": {"method": "small", "steps": 1}, "slow": {"method": "large", "steps": 4}}
    times = service_times.measure(one_service, kinds, 3)
    path = tmp_path / "times.json"
    path.write_text(json.dumps(service_times.described(kinds, times)))
    read, _ = read_service_times(path)
    assert {name: len(seconds) for name, seconds in read.items()} == {"quick": 3, "slow": 3}
    assert min(read["quick"]) < min(read["slow"])


def test_a_load_test_of_capacity_says_how_long_each_request_took_and_its_service(one_service, monkeypatch):
    monkeypatch.setattr(capacity, "KINDS", {"quick": {"method": "small", "steps": 1}})
    monkeypatch.setattr(capacity, "SHARES", {"quick": 1.0})
    found = capacity.load(one_service, 1000, 10, np.random.default_rng(0))
    assert len(found["seconds"]) == len(found["service"]) == 10
    assert (found["service"] > 0).all()
    assert (found["seconds"] >= found["service"] - 1e-9).all()
    assert found["seconds"][-1] > found["service"][-1]  # it waited
