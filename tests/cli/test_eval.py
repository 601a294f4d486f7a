"""`hybridstitch-trt eval`, from its arguments to the report."""

import json

import pytest
from PIL import Image

from hybridstitch.cli import main
from hybridstitch.evaluation.quality import held_out

QUICK = ["eval", "--pair", "demo", "--count", "2", "--steps", "3", "--variant", "small"]


ACCURACY = {"background": 1.0, "place": 0.99, "size": 1.0, "color": 1.0, "shape": 0.985, "texture": 0.98, "all": 0.95}


@pytest.fixture(autouse=True)
def accuracy(monkeypatch) -> dict[str, float]:
    """What the judge finds right in true pictures; another test measures it, in seconds."""
    found = dict(ACCURACY)
    monkeypatch.setattr(held_out, "accuracy_on_true_pictures", lambda judge: found)
    monkeypatch.setattr(held_out, "TRUE_PICTURES", 64)
    return found


@pytest.fixture
def quick(demo_engines, tmp_path):
    return [*QUICK, "--engines", str(demo_engines), "--out", str(tmp_path / "eval")]


def test_it_reports_closeness_attributes_and_the_control_and_goes_on_where_it_stopped(quick, tmp_path, capsys):
    assert main(quick) == 0
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "eval" / "methods.json").read_text())
    rows = {row["variant"]: row for row in report["rows"]}
    assert {"large", "large@2", "large@1", "small"} == set(rows)
    assert rows["small"]["means"]["psnr"]["mean"] > 0
    assert 0 <= rows["small"]["all_right"]["mean"] <= 1
    assert set(rows["large"]["accuracy"]) == {"background", "place", "size", "color", "shape", "texture", "all"}
    assert report["about"]["judge_on_true_pictures"] == ACCURACY
    assert "right" in shown
    assert Image.open(tmp_path / "eval" / "methods" / "attributes.png").width > 500

    kept = tmp_path / "eval" / "methods" / "pictures.jsonl"
    drawn = kept.read_text()
    assert main(quick) == 0
    assert kept.read_text() == drawn


def test_by_operations_it_compares_at_as_many_operations(quick, tmp_path):
    assert main([*quick, "--by", "operations"]) == 0
    report = json.loads((tmp_path / "eval" / "methods.json").read_text())
    rows = {row["variant"]: row for row in report["rows"]}
    assert report["about"]["compared_by"] == "operations"
    assert [rows[name]["operations"] for name in ("large", "large@2", "large@1")] == [3, 2, 1]
    assert 0 < rows["small"]["operations"] < 1
    assert rows["large@1"]["speedup"] == 3
    assert Image.open(tmp_path / "eval" / "methods" / "closeness.png").width > 500


def test_a_judge_that_is_wrong_about_true_pictures_is_not_asked(quick, tmp_path, capsys, accuracy):
    accuracy["texture"] = 0.979
    assert main(quick) == 0
    assert "the judge is not asked: on true pictures it is right in" in capsys.readouterr().err
    rows = json.loads((tmp_path / "eval" / "methods.json").read_text())["rows"]
    assert all(row["all_right"] is None for row in rows)


def test_prompts_of_a_file_are_compared_without_the_judge(quick, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("# two\na large red star\na small blue ring\n")
    assert main([*quick, "--prompts", str(tmp_path / "prompts.txt")]) == 0
    rows = json.loads((tmp_path / "eval" / "methods.json").read_text())["rows"]
    assert all(row["accuracy"] is None and row["frechet"] is None for row in rows)
    assert "Frechet" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "1"], "count must be a whole number from 2 to 100000, not 1"),
        (["--minutes", "0"], "minutes must be over 0, not 0"),
        (["--variant", "medium"], "no variant begins with 'medium'; there are 'small', "),
        (["--prompts", "/nowhere.txt"], "/nowhere.txt cannot be read: No such file or directory"),
        (["--out", "/proc/nowhere/eval"], "--out: cannot make /proc/nowhere/eval: No such file or directory"),
        (["--pair", "sd35"], "no captions come along for pair 'sd35': give some with --prompts FILE"),
        (["--steps", "0"], "steps must be a whole number from 1 to 1000, not 0"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_drawn(quick, tmp_path, capsys, arguments, words):
    try:
        code = main([*quick, *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "eval").rglob("pictures.jsonl"))


def test_a_run_whose_time_is_out_before_a_caption_is_done_says_so(quick, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a large red star\na small blue ring\n")
    assert main([*quick, "--prompts", str(tmp_path / "prompts.txt"), "--minutes", "1e-9"]) == 2
    assert "no caption was drawn with every variant; give it more --minutes" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_of_the_reports_name_is_refused(tmp_path, capsys):
    (tmp_path / "methods.json").write_text("mine")
    assert main([*QUICK, "--out", str(tmp_path)]) == 2
    words = f"--out {tmp_path}: methods.json is there, and no evaluation drew its pictures there; name another folder"
    assert words in capsys.readouterr().err
    assert (tmp_path / "methods.json").read_text() == "mine"
