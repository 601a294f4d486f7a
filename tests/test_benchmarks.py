"""The scripts behind the documents' figures do what they say, at a tiny size."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import machine, methods, picture_hashes
from training.world import held_out, read_caption


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
