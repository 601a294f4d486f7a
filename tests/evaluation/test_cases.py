"""What is drawn to be measured, and how close two pictures are."""

import numpy as np
import pytest
from PIL import Image

from hybridstitch.evaluation.cases import DEMO_CAPTIONS, DEMO_CASES
from hybridstitch.evaluation.quality.closeness import psnr
from hybridstitch.evaluation.world.scenes import held_out, read_caption


def test_psnr_is_that_of_8_bit_pictures():
    black, grey = Image.new("RGB", (4, 4)), Image.fromarray(np.full((4, 4, 3), 10, dtype="uint8"))
    assert psnr(grey, black) == pytest.approx(10 * np.log10(255**2 / 100))


def test_what_is_drawn_to_be_measured_was_never_trained_on():
    assert all(held_out(read_caption(caption)) for caption in DEMO_CAPTIONS)


def test_every_case_has_a_seed_of_its_own():
    assert [case.seed for case in DEMO_CASES] == list(range(len(DEMO_CAPTIONS)))
