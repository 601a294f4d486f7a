import numpy as np
import pytest
from PIL import Image

from hybridstitch.evaluation.quality.similarity import find_lpips, ssim


def flat(value: int, side: int = 16) -> Image.Image:
    return Image.new("RGB", (side, side), (value,) * 3)


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(32, 24, 3), dtype=np.uint8))


def test_equal_pictures_are_wholly_similar_and_independent_noise_is_hardly():
    assert ssim(noise(0), noise(0)) == pytest.approx(1.0)
    assert abs(ssim(noise(0), noise(1))) < 0.1


def test_of_flat_pictures_only_the_luminance_term_is_left():
    bright, dark, c1 = 200, 100, (0.01 * 255) ** 2
    assert ssim(flat(bright), flat(dark)) == pytest.approx((2 * bright * dark + c1) / (bright**2 + dark**2 + c1))


def test_a_shifted_pattern_is_less_similar_than_one_that_is_a_little_darker():
    stripes = np.zeros((32, 32, 3), dtype=np.uint8)
    stripes[:, ::4] = 200
    shifted, darker = np.roll(stripes, 2, axis=1), (stripes * 0.9).astype(np.uint8)
    picture = Image.fromarray(stripes)
    assert ssim(picture, Image.fromarray(shifted)) < 0 < 0.98 < ssim(picture, Image.fromarray(darker))


def test_pictures_of_two_sizes_or_smaller_than_the_window_are_not_compared():
    for first, second in ((flat(0, 16), flat(0, 17)), (flat(0, 10), flat(0, 10))):
        with pytest.raises(ValueError, match="one size of 11 pixels or more"):
            ssim(first, second)


def test_without_weights_at_hand_there_is_no_lpips(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert find_lpips() is None
