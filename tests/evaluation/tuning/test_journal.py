"""The file of what a search drew."""

import os
import re

import pytest

from hybridstitch.evaluation.tuning.journal import Journal
from hybridstitch.method.errors import HybridStitchError

FACTS = {"pair": "demo", "steps": 28}


def test_what_was_drawn_is_there_when_a_search_goes_on(tmp_path):
    path = tmp_path / "s.jsonl"
    journal = Journal.open(path, FACTS, resume=False)
    journal.add("search", "large, 9 steps", 3, psnr=31.5, seconds=0.25)
    again = Journal.open(path, FACTS, resume=True)
    assert again.find("search", "large, 9 steps", 3) == journal.find("search", "large, 9 steps", 3)
    assert again.find("search", "large, 9 steps", 4) is None
    assert again.find("final", "large, 9 steps", 3) is None


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path):
    path = tmp_path / "s.jsonl"
    Journal.open(path, FACTS, resume=False).add("search", "a", 0, psnr=1.0)
    with path.open("a") as file:
        file.write('{"what": "search", "na')
    journal = Journal.open(path, FACTS, resume=True)
    journal.add("search", "b", 0, psnr=2.0)
    assert set(Journal.open(path, FACTS, resume=True).lines) == {("search", "a", 0), ("search", "b", 0)}


def test_a_file_to_go_on_with_that_is_not_there_is_begun(tmp_path):
    Journal.open(tmp_path / "s.jsonl", FACTS, resume=True)
    assert (tmp_path / "s.jsonl").read_text().count("\n") == 1


def test_what_another_search_drew_is_never_overwritten(tmp_path):
    path = tmp_path / "s.jsonl"
    Journal.open(path, FACTS, resume=False).add("search", "a", 0, psnr=1.0)
    before = path.read_bytes()
    with pytest.raises(
        HybridStitchError, match=r"holds what an earlier search drew: go on from it with --resume .*s.jsonl"
    ):
        Journal.open(path, FACTS, resume=False)
    with pytest.raises(HybridStitchError, match="was drawn with another steps: 28, now 14; leave out --resume"):
        Journal.open(path, {**FACTS, "steps": 14}, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"hello", b"[1]\n", b'{"search": {}}\n{"what": 1}\n', b"\xff\xfe\n"]
)
def test_a_file_that_is_no_journal_is_refused(tmp_path, content):
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    with pytest.raises(HybridStitchError, match=r"s.jsonl is no file that tune wrote"):
        Journal.open(path, FACTS, resume=True)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_used_is_told(tmp_path):
    with pytest.raises(HybridStitchError, match=re.escape("cannot be used: Is a directory")):
        Journal.open(tmp_path, FACTS, resume=True)
    with pytest.raises(HybridStitchError, match="cannot be used: No such file"):
        Journal.open(tmp_path / "none" / "s.jsonl", FACTS, resume=False)
    journal = Journal.open(tmp_path / "s.jsonl", FACTS, resume=False)
    os.remove(journal.path)
    journal.path.mkdir()
    with pytest.raises(HybridStitchError, match=r"s.jsonl cannot be written: Is a directory"):
        journal.add("search", "a", 0, psnr=1.0)
