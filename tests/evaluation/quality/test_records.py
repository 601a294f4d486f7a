import json
from dataclasses import replace

import pytest

from hybridstitch import HybridStitch
from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.quality.records import Records
from hybridstitch.evaluation.variants import HYBRID
from hybridstitch.method.errors import HybridStitchError

CASE = PromptCase("a large red star on a navy background", 3)


@pytest.fixture(scope="module")
def pipe(demo_engines):
    with HybridStitch.load("demo", engines=demo_engines) as pipe:
        yield pipe


def test_what_was_noted_is_found_again_and_nothing_else(pipe, tmp_path):
    path = tmp_path / "new" / "pictures.jsonl"
    Records(path, pipe).add(HYBRID, CASE, {"seconds": 1.0})
    again = Records(path, pipe)
    assert (again.find(HYBRID, CASE) or {})["seconds"] == 1.0
    assert again.find(HYBRID.but("another name"), CASE) is not None  # what decides a picture is not what it is called
    for other in (HYBRID.but(steps=5), HYBRID.but(aid="random"), HYBRID.but(guidance=2.0)):
        assert again.find(other, CASE) is None
    assert again.find(HYBRID, PromptCase(CASE.prompt, 4)) is None


@pytest.mark.parametrize("changed", ["graph_sha256", "weights_sha256", "backend_version"])
def test_another_engine_is_measured_anew(pipe, tmp_path, monkeypatch, changed):
    path = tmp_path / "pictures.jsonl"
    Records(path, pipe).add(HYBRID, CASE, {"seconds": 1.0})
    large = pipe.engines["large"]
    monkeypatch.setattr(large, "manifest", replace(large.manifest, **{changed: "another"}))
    assert Records(path, pipe).find(HYBRID, CASE) is None


def test_a_line_that_a_crash_cut_short_is_dropped_and_the_next_one_is_whole(pipe, tmp_path):
    path = tmp_path / "pictures.jsonl"
    Records(path, pipe).add(HYBRID, CASE, {"seconds": 1.0})
    with path.open("a") as file:
        file.write('{"key": "12')
    Records(path, pipe).add(HYBRID, PromptCase("a", 0), {"seconds": 2.0})
    assert [json.loads(line)["seconds"] for line in path.read_text().splitlines()] == [1.0, 2.0]


@pytest.mark.parametrize("text", ["no json\n", '{"other": 1}\n', "[1]\n"])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(pipe, tmp_path, text):
    path = tmp_path / "pictures.jsonl"
    path.write_text(text)
    with pytest.raises(HybridStitchError, match="is no file that eval wrote; name another folder with --out"):
        Records(path, pipe)
    assert path.read_text() == text
