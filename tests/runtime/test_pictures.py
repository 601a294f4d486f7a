"""What a picture's file says of how it was made, and files that say it wrong."""

import pytest
from PIL import Image, PngImagePlugin

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.pictures import METADATA_KEY, encode_png, read_metadata, save_png


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is no picture of hybridstitch-trt"),
        ("[" * 9999, "it is no picture of hybridstitch-trt"),
        ("{}", "key 'prompt' is missing"),
        ('{"prompt": 3}', "prompt: Input should be a valid string, not 3"),
        ("[]", "Input should be a valid dictionary"),
    ],
)
def test_a_file_that_says_it_wrong_is_refused(tmp_path, text, words):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(METADATA_KEY, text)
    Image.new("RGB", (8, 8)).save(tmp_path / "wrong.png", pnginfo=chunks)
    with pytest.raises(HybridStitchError, match=f"does not say how it was made: .*{words}"):
        read_metadata(tmp_path / "wrong.png")


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    path = tmp_path / f"{'n' * 251}.png"
    save_png(Image.new("RGB", (8, 8)), path, {})
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_in_memory_is_the_file_that_is_saved(tmp_path):
    picture, made = Image.new("RGB", (8, 8), "red"), {"prompt": "a circle ✶", "seed": 7}
    save_png(picture, tmp_path / "red.png", made)
    assert encode_png(picture, made) == (tmp_path / "red.png").read_bytes()
