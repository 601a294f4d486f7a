"""What pictures are called: readable, in the prompt's script, and taken by every file system."""

import os
import unicodedata

import pytest

from hybridstitch.cli import picture_names
from hybridstitch.cli.picture_names import picture_stem, stem


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A large red star, left of a circle", "a-large-red-star-left-of-a-circle"),
        ("большая красная звезда", "большая-красная-звезда"),
        ("大きな赤い星", "大きな赤い星"),
        ("نجمة حمراء كبيرة", "نجمة-حمراء-كبيرة"),
        ("एक बड़ा लाल तारा", unicodedata.normalize("NFC", "एक-बड़ा-लाल-तारा")),
        ("ein großer Bär", "ein-großer-bär"),
        ("ein Ba\u0308r", "ein-b\u00e4r"),
        ("../../etc/passwd", "etc-passwd"),
        ('a<b>c:d"e|f?g*h\\i/j', "a-b-c-d-e-f-g-h-i-j"),
        ("a star.png.", "a-star-png"),
        ("\u202ered\u202c st\u200dar\x00\x1b[31m\n", "red-star-31m"),
        ("\u3164\ufe0f\u2060", "picture"),
        ("\u0301 \u0301a", "a"),
        ("🐻 ✶ !?", "picture"),
        ("", "picture"),
    ],
)
def test_a_name_keeps_the_script_and_nothing_that_is_reserved_or_unseen(prompt, words):
    assert stem(prompt, 7, "hybrid") == f"{words}-seed7-hybrid"


@pytest.mark.parametrize("letter", ["a", "я", "星", "𐌰", "क़ि", "a\u0301\u0302\u0303"])
@pytest.mark.parametrize("longest", [255, 143, 64])
def test_a_name_its_number_and_its_mask_fit_into_the_bytes_that_a_file_system_has(letter, longest):
    name = stem(letter * 500, 2**63 - 1, "srdiffusion", longest)
    assert len(f"{name}-9999-mask.png".encode()) <= max(
        longest, len("picture-seed9223372036854775807-srdiffusion-9999-mask.png")
    )
    words = name.removesuffix("-seed9223372036854775807-srdiffusion")
    whole = unicodedata.normalize("NFC", letter)
    assert words == "picture" or words == whole * (len(words) // len(whole)), "a letter lost its marks"


def test_a_file_system_that_refuses_a_script_gets_an_ascii_name(tmp_path, monkeypatch):
    assert picture_stem(tmp_path, "ein Bär 星", 7, "hybrid") == "ein-bär-星-seed7-hybrid"
    touch = picture_names.Path.touch

    def refuses(path):
        if not path.name.isascii():
            raise OSError(84, "Invalid or incomplete multibyte or wide character")
        touch(path)

    monkeypatch.setattr(picture_names.Path, "touch", refuses)
    assert picture_stem(tmp_path, "ein Bär 星", 7, "hybrid") == "ein-b-r-seed7-hybrid"
    assert picture_stem(tmp_path, "星", 7, "hybrid") == "picture-seed7-hybrid"
    assert os.listdir(tmp_path) == []
