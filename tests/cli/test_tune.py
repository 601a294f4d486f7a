"""`hybridstitch-trt tune`: what it writes, says and refuses."""

import json
import sys

import pytest

from hybridstitch.cli import main
from hybridstitch.evaluation.tuning.search_session import SearchSession
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.pairs.schedule_file import read_schedule

HEART = "a large plain green heart on a grey background"
PROMPTS = "a large plain red star on a sky background\n" * 4


@pytest.fixture
def short(tmp_path):
    """The demo pair in 4 steps, by a recipe of one's own."""
    shipped = Recipe.load("demo")
    text = (shipped.folder / "demo.toml").read_text().replace('"demo/', f'"{shipped.folder}/demo/')
    path = tmp_path / "short.toml"
    head = text[: text.index("[methods.hybrid]")].replace("steps = 28", "steps = 4")
    path.write_text(head.replace("mask_ratios = [0.15, 0.3, 0.5]", "mask_ratios = [0.3]"))
    return str(path)


@pytest.fixture
def tune(demo_engines, short, tmp_path, monkeypatch, capsys):
    """Run the command on the demo engines; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text(PROMPTS)

    def call(*arguments: str):
        fixed = ["--pair", short, "--engines", str(demo_engines), "--prompts", "prompts.txt", "--count", "4"]
        code = main(["tune", *fixed, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_schedule_a_plot_and_a_sentence_come_out_and_run_draws_by_the_schedule(
    tune, short, demo_engines, tmp_path, capsys
):
    code, stdout, stderr = tune("--speedup", "1.2", "--minutes", "0.4", "--out", "fast.toml", "--plot", "pareto.png")
    assert code == 0, stderr
    schedule = read_schedule(tmp_path / "fast.toml")
    told = " ".join(stdout.split())
    assert schedule.tuned["found"] in told
    assert schedule.tuned["found"].startswith("For 1.2x the speed of large: ")
    assert "speed-up" in told
    for fact in ("seconds", "speedup", "psnr_db", "captions", "machine", "versions", "command", "drawn", "complete"):
        assert fact in schedule.tuned
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    draw = ["run", "--pair", short, "--engines", str(demo_engines), "--schedule", "fast.toml", "--prompt", HEART]
    assert main([*draw, "--json"]) == 0
    parameters = json.loads(capsys.readouterr().out)["parameters"]
    assert parameters == make_parameters(Recipe.load(short), schedule.method, **schedule.settings).as_dict()


def test_ctrl_c_keeps_what_was_drawn_and_writes_no_schedule_and_a_search_goes_on(tune, tmp_path, monkeypatch):
    closeness, calls = SearchSession.closeness, iter(range(3))

    def interrupted(session, candidate, case):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return closeness(session, candidate, case)

    monkeypatch.setattr(SearchSession, "closeness", interrupted)
    code, stdout, stderr = tune("--speedup", "1.2")
    assert code == 130
    assert stdout == ""
    assert stderr.splitlines() == [
        "what was drawn is kept: go on with --resume schedule.jsonl",
        "hybridstitch-trt tune: stopped",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompts.txt", "schedule.jsonl", "short.toml"]
    monkeypatch.setattr(SearchSession, "closeness", closeness)
    kept = (tmp_path / "schedule.jsonl").read_text()
    code, _, stderr = tune("--speedup", "1.2", "--minutes", "0.12")
    assert code == 2
    assert "schedule.jsonl holds what an earlier search drew: go on from it with --resume schedule.jsonl" in stderr
    code, stdout, stderr = tune("--speedup", "1.2", "--minutes", "0.12", "--resume", "schedule.jsonl", "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert report["schedule"] == "schedule.toml"
    assert report["method"] == read_schedule(tmp_path / "schedule.toml").method
    assert {row["role"] for row in report["measured"]} >= {"finalist"}
    assert (tmp_path / "schedule.jsonl").read_text().startswith(kept)
    code, _, stderr = tune("--speedup", "1.2", "--resume", "schedule.jsonl", "--size", "96x160")
    assert code == 2
    assert "schedule.jsonl was drawn with another size: 128x128, now 96x160; leave out --resume" in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of the arguments --speedup --seconds --psnr is required"),
        (["--speedup", "2", "--psnr", "30"], "argument --psnr: not allowed with argument --speedup"),
        (["--speedup", "1"], "speedup must be over 1 and at most 1000, not 1"),
        (["--seconds", "0"], "seconds must be over 0 and at most 1e+06, not 0"),
        (["--seconds", "soon"], "seconds must be a number, not 'soon'"),
        (["--psnr", "nan"], "psnr must be a number, not nan"),
        (["--psnr", "-3"], "psnr must be over 0 and at most 100, not -3"),
        (["--speedup", "2", "--minutes", "0"], "minutes must be over 0 and at most 100000, not 0"),
        (["--speedup", "2", "--count", "3"], "count must be a whole number from 4 to 10000, not 3"),
        (["--speedup", "2", "--out", "fast.txt"], "--out fast.txt: it is a .toml file; name it fast.toml"),
        (["--speedup", "2", "--out", "none/fast.toml"], "--out none/fast.toml: no such folder none; make it first"),
        (["--speedup", "2", "--out", "folder.toml"], "--out folder.toml is a folder; name a file"),
        (["--speedup", "2", "--out", "mine.toml"], "--out: mine.toml is there already; name another file, or add --ov"),
        (["--speedup", "2", "--plot", "mine.png"], "--plot: mine.png is there already; name another file, or add --ov"),
        (["--speedup", "2", "--plot", "fast.jpg"], "--plot fast.jpg: it is a .png file; name it fast.png"),
        (["--speedup", "2", "--pair", "nope"], "unknown pair 'nope'; known: demo"),
        (["--speedup", "2", "--pair", "sd35"], "no captions come along for pair 'sd35': give some with --prompts FILE"),
        (["--speedup", "2", "--prompts", "none.txt"], "prompts file none.txt cannot be read: No such file"),
        (["--speedup", "2", "--count", "99"], "--count 99 is more than the 64 captions of what comes along"),
        (["--speedup", "2"], "Build it: hybridstitch-trt build --pair demo --backend onnxruntime"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_code_2_and_leaves_nothing(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "mine.toml").write_text("mine")
    (tmp_path / "mine.png").write_text("mine")
    try:
        code = main(["tune", *arguments])
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr().err
    assert code == 2
    assert words in told
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.toml", "mine.png", "mine.toml"]
    assert (tmp_path / "mine.toml").read_text() == (tmp_path / "mine.png").read_text() == "mine"


def test_a_plot_without_matplotlib_is_refused_before_anything_is_drawn(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["tune", "--speedup", "2", "--plot", "p.png"]) == 2
    assert "--plot needs matplotlib: pip install 'hybridstitch-trt[evaluation]'" in capsys.readouterr().err


def test_a_file_to_resume_that_is_none_of_ours_is_refused(tune, tmp_path):
    (tmp_path / "notes.txt").write_text("my notes")
    code, _, stderr = tune("--speedup", "1.2", "--resume", "notes.txt")
    assert (code, stderr) == (2, "hybridstitch-trt tune: notes.txt is no file that tune wrote\n")
    assert (tmp_path / "notes.txt").read_text() == "my notes"
