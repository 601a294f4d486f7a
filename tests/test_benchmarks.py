"""The scripts behind the documents' figures do what they say, at a tiny size."""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks import batches, machine, methods, picture_hashes, serving
from benchmarks.fronts import Wanted
from hybridstitch.evaluation.world.scenes import held_out, read_caption


def test_psnr_is_that_of_8_bit_pictures():
    black, grey = Image.new("RGB", (4, 4)), Image.fromarray(np.full((4, 4, 3), 10, dtype="uint8"))
    assert methods.psnr(grey, black) == pytest.approx(10 * np.log10(255**2 / 100))


def test_what_is_drawn_to_be_measured_was_never_trained_on():
    assert all(held_out(read_caption(caption)) for caption in methods.CAPTIONS)


def test_every_method_is_measured_against_large(pipe, monkeypatch):
    quick = {name: {**settings, "steps": 4} for name, settings in methods.METHODS.items()}
    monkeypatch.setattr(methods, "METHODS", quick)
    found = methods.measure(pipe, methods.CAPTIONS[:1], repetitions=1)
    assert set(found) == set(methods.METHODS)
    assert found["large"]["speedup"] == 1
    assert found["large"]["psnr_to_large_db"] is None
    assert found["small"]["speedup"] > 1
    large, hybrid = (pipe(methods.CAPTIONS[0], method=name, steps=4).images[0] for name in ("large", "hybrid"))
    assert found["hybrid"]["psnr_to_large_db"] == round(methods.psnr(hybrid, large), 2)


def test_a_result_says_machine_versions_and_command(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["methods.py", "--repetitions", "2"])
    text = machine.save("one", "benchmarks.methods", {"methods": {}}).read_text()
    for word in ("processor", "cores", "torch", "python -m benchmarks.methods --repetitions 2"):
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
