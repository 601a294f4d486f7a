"""What a picture's file says of how it was made, and files that say it wrong."""

import json

import pytest
from PIL import Image, PngImagePlugin

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.pictures import METADATA_KEY, encode_png, read_metadata


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


def test_a_file_says_how_the_picture_was_made_value_by_value(tmp_path):
    made = {"prompt": "a circle ✶", "seed": 7}
    (tmp_path / "red.png").write_bytes(encode_png(Image.new("RGB", (8, 8), "red"), made))
    saved = Image.open(tmp_path / "red.png")
    assert saved.getpixel((0, 0)) == (255, 0, 0)
    assert (saved.info["prompt"], saved.info["seed"]) == ("a circle ✶", "7")
    assert json.loads(saved.info[METADATA_KEY]) == made


def test_a_picture_from_before_held_tokens_moved_on_can_be_drawn_again(tmp_path):
    made = make_parameters(Recipe.load("demo")).as_dict() | {"prompt": "a star", "negative_prompt": "", "seed": 7}
    made |= {"size": "128x128", "pair": "demo"}
    before = {name: value for name, value in made.items() if name not in ("extrapolate", "correct")}
    (tmp_path / "old.png").write_bytes(encode_png(Image.new("RGB", (8, 8)), before))
    assert read_metadata(tmp_path / "old.png") == before
    del before["sketch"]
    (tmp_path / "old.png").write_bytes(encode_png(Image.new("RGB", (8, 8)), before))
    with pytest.raises(HybridStitchError, match="key 'sketch' is missing"):
        read_metadata(tmp_path / "old.png")
