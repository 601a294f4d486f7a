"""Where pictures go: never in the place of what this run did not make."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from hybridstitch.cli.output import Place, picture_places
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.whole_files import create, replace


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_picture_of_a_name_gets_a_number_and_so_does_its_mask(tmp_path):
    place = Place(tmp_path / "star.png")
    assert place.save(b"one", b"its mask") == (tmp_path / "star.png", tmp_path / "star-mask.png")
    assert place.save(b"two", b"other") == (tmp_path / "star-2.png", tmp_path / "star-2-mask.png")
    assert place.save(b"three") == (tmp_path / "star-3.png", None)
    assert content(tmp_path) == {
        "star.png": b"one",
        "star-mask.png": b"its mask",
        "star-2.png": b"two",
        "star-2-mask.png": b"other",
        "star-3.png": b"three",
    }


def test_the_same_picture_drawn_again_is_the_file_that_is_there(tmp_path):
    place = Place(tmp_path / "star.png")
    assert place.save(b"one") == place.save(b"one") == (tmp_path / "star.png", None)
    assert place.save(b"one", b"mask") == (tmp_path / "star.png", tmp_path / "star-mask.png")
    assert place.save(b"one", b"mask") == (tmp_path / "star.png", tmp_path / "star-mask.png")
    assert content(tmp_path) == {"star.png": b"one", "star-mask.png": b"mask"}


def test_a_mask_that_is_left_over_never_lies_by_another_picture(tmp_path):
    (tmp_path / "star-mask.png").write_bytes(b"of a picture that is gone")
    assert Place(tmp_path / "star.png").save(b"one") == (tmp_path / "star-2.png", None)
    assert Place(tmp_path / "star.png").save(b"two", b"mask")[1] == tmp_path / "star-3-mask.png"


def test_overwriting_is_told(tmp_path):
    place = Place(tmp_path / "star.png", overwrite=True)
    for words in (b"one", b"two"):
        assert place.save(words, words) == (tmp_path / "star.png", tmp_path / "star-mask.png")
    assert content(tmp_path) == {"star.png": b"two", "star-mask.png": b"two"}


@pytest.mark.parametrize("what", ["a folder", "a link to nothing"])
def test_what_is_no_file_keeps_its_name_too(tmp_path, what):
    path = tmp_path / "star.png"
    path.mkdir() if what == "a folder" else path.symlink_to("nowhere")
    assert Place(path).save(b"one") == (tmp_path / "star-2.png", None)


@pytest.mark.parametrize("there", ["star.png", "star-mask.png"])
def test_a_file_that_is_named_and_there_is_refused_before_anything_is_drawn(tmp_path, there):
    (tmp_path / there).write_bytes(b"mine")
    out = str(tmp_path / "star.png")
    with pytest.raises(HybridStitchError, match=f"{there} is there already; name another file, or add --overwrite"):
        picture_places(out, ["a star"], 7, "hybrid")
    assert picture_places(out, ["a star"], 7, "hybrid", overwrite=True) == [Place(tmp_path / "star.png", True)]
    assert content(tmp_path) == {there: b"mine"}


def test_pictures_of_one_run_have_names_of_their_own(tmp_path):
    prompts = ["星", "星", "звезда", "a star", "a star!", "a " * 50 + "star", "a " * 50 + "circle"]
    places = picture_places(str(tmp_path), prompts, 7, "hybrid")
    assert len({place.path for place in places}) == len(prompts)


def test_a_file_system_without_hard_links_is_written_to_all_the_same(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    assert create(tmp_path / "star.png", b"one")
    assert not create(tmp_path / "star.png", b"two")
    assert content(tmp_path) == {"star.png": b"one"}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path / "moon.png", b"one")
    assert content(tmp_path) == {"star.png": b"one"}


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    path = tmp_path / f"{'n' * 251}.png"
    assert create(path, b"one")
    replace(path, b"two")
    assert content(tmp_path) == {path.name: b"two"}


def save_all(folder: Path, who: int) -> None:
    for number in range(50):
        words = f"{who} {number}".encode() * 1000
        Place(folder / "star.png").save(words, words)


def test_two_processes_that_write_into_one_folder_lose_nothing(tmp_path):
    several = [multiprocessing.get_context("fork").Process(target=save_all, args=(tmp_path, who)) for who in range(3)]
    for each in several:
        each.start()
    for each in several:
        each.join(60)
    saved = content(tmp_path)
    pictures = {name: data for name, data in saved.items() if "mask" not in name}
    assert len(saved) == 2 * len(pictures) == 2 * len(set(pictures.values())) == 300
    assert all(saved[f"{name.removesuffix('.png')}-mask.png"] == data for name, data in pictures.items())
