"""`hybridstitch-trt bench`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hybridstitch.cli import bench_tables, main
from hybridstitch.evaluation.speed.diffusers_pipeline import Rival
from hybridstitch.method.progress import Progress


@pytest.fixture
def prepared(bench_report, pipe, monkeypatch) -> list:
    """The demo pair's report, without measuring again; what was asked for."""
    asked = []

    def measured(_, cases, options, command, progress):
        progress(Progress("large", 1, 2))
        asked.append((cases, options))
        return bench_report

    monkeypatch.setattr("hybridstitch.evaluation.speed.bench.bench", measured)
    monkeypatch.setattr("hybridstitch.runtime.pipeline.HybridStitch.load", lambda *_, **__: pipe)
    return asked


def test_tables_of_methods_stages_calls_and_engines_fit_80_columns(capsys, prepared):
    assert main(["bench", "--no-diffusers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, map(str.rstrip, lines))) <= 80
    text = "\n".join(lines)
    for words in (
        "hybrid-paper@0.3",
        "speed-up",
        "as long takes",
        "overhead",
        "t-stitch",
        "large alone",
        "hybrid@0.15",
    ):
        assert words in text
    for words in ("seconds of the stage", "masked call, M", "operations", "calls / s", "vae_decoder", "4 steps"):
        assert words in text
    assert "diffusers" not in text


def test_diffusers_stands_beside_our_large_model_and_what_could_not_run_says_why(bench_report, capsys):
    rivals = {
        "large": Rival("large", (1.0, 1.0, 1.0)),
        "eager": Rival("eager", (2.0, 2.5, 3.0), 0.1),
        "compile": Rival("compile", reason="RuntimeError: no compiler [here]"),
    }
    report = replace(bench_report, diffusers=rivals, notes=["operations are not counted: no checkpoint"])
    bench_tables.print_report(report)
    text = capsys.readouterr().out
    assert "2.50x" in text
    assert "diffusers, compile, could not run: RuntimeError: no compiler [here]" in text
    assert "operations are not counted: no checkpoint" in text
    found = report.as_dict()["diffusers"]
    assert (found["eager"], found["compile"], found["large_speedup_over_eager"]) == (2.5, None, 2.5)
    assert found["compile_reason"] == "RuntimeError: no compiler [here]"


def test_json_and_plots_are_written_whole_and_named(capsys, prepared, bench_report, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text("of before")
    assert main(["bench", "--json", str(path), "--plots", str(tmp_path), "--overwrite"]) == 0
    assert json.loads(path.read_text()) == json.loads(json.dumps(bench_report.as_dict()))
    assert {found.name for found in tmp_path.iterdir()} == {"bench.json", "closeness.png", "masked-call.png"}
    assert capsys.readouterr().out.splitlines()[-3:] == [
        str(tmp_path / name) for name in ("bench.json", "closeness.png", "masked-call.png")
    ]


def test_ctrl_c_leaves_what_was_there_before(capsys, prepared, tmp_path, monkeypatch):
    path = tmp_path / "bench.json"
    path.write_text("of before")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hybridstitch.evaluation.speed.bench.bench", stop)
    assert main(["bench", "--json", str(path), "--plots", str(tmp_path), "--overwrite"]) == 130
    assert "hybridstitch-trt bench: stopped" in capsys.readouterr().err
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("bench.json", "of before")]


def test_captions_come_from_a_file_and_options_from_flags(prepared, tmp_path):
    (tmp_path / "prompts.txt").write_text("# mine\n\na red star\n  a blue ring \n")
    arguments = ["--guidance", "5", "--steps", "8", "--fewer-steps", "4", "--mask-ratio", "0.2", "--repetitions", "7"]
    assert main(["bench", "--captions", str(tmp_path / "prompts.txt"), *arguments]) == 0
    cases, options = prepared[0]
    assert [(case.prompt, case.seed) for case in cases] == [("a red star", 3), ("a blue ring", 4)]
    assert (options.guidance, options.steps, options.fewer_steps, options.ratios) == (5.0, 8, 4, (0.2,))
    assert (options.repetitions, options.diffusers) == (7, True)


def refused(capsys, words: str, *arguments: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that holds the words."""
    try:
        code = main(["bench", *arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.strip().count("\n") == 0
    assert words in captured.err


def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path):
    refused(capsys, "unknown pair 'nope'; known: demo", "--pair", "nope")
    refused(capsys, "is not built", "--engines", str(tmp_path / "nothing"))
    refused(capsys, "pair 'sd35' has no prompts of its own: give --captions FILE", "--pair", "sd35")
    refused(capsys, "guidance must be from 0 to 100, not 101", "--guidance", "101")
    refused(capsys, "repetitions must be a whole number from 1 to 1000, not 0", "--repetitions", "0")
    refused(capsys, "repetitions must be a whole number from 1 to 1000, not 'x'", "--repetitions", "x")
    refused(capsys, "mask ratio must be from 0 to 1, not 2", "--mask-ratio", "2")
    refused(capsys, "steps must be a whole number from 1 to 1000, not 0", "--fewer-steps", "0")
    refused(capsys, "nothing.txt cannot be read: No such file", "--captions", str(tmp_path / "nothing.txt"))
    (tmp_path / "empty.txt").write_text("# none\n")
    refused(capsys, "empty.txt holds no prompt", "--captions", str(tmp_path / "empty.txt"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    refused(capsys, "bytes.txt is not UTF-8 text", "--captions", str(tmp_path / "bytes.txt"))


@pytest.mark.parametrize("name", ["bench.json", "closeness.png", "masked-call.png"])
def test_a_file_that_is_there_is_refused_before_anything_is_loaded(capsys, tmp_path, monkeypatch, name):
    monkeypatch.setattr("hybridstitch.runtime.pipeline.HybridStitch.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / name).write_text("mine")
    words = f"{tmp_path / name} is there already; name another file, or add --overwrite"
    refused(capsys, words, "--json", str(tmp_path / "bench.json"), "--plots", str(tmp_path))
    assert (tmp_path / name).read_text() == "mine"


def test_where_nothing_can_be_written_is_told_before_anything_is_loaded(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("hybridstitch.runtime.pipeline.HybridStitch.load", lambda *_, **__: pytest.fail("loaded"))
    refused(capsys, "is a folder; name a file in it", "--json", str(tmp_path))
    refused(capsys, f"no such folder {tmp_path / 'no'}; make it first", "--json", str(tmp_path / "no" / "b.json"))
    refused(capsys, "--plots", "--plots", str(tmp_path / "no"))
    refused(capsys, "no such folder; make it first", "--plots", str(tmp_path / "no"))
    refused(capsys, "argument --json: it names no file or folder", "--json", "")

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hybridstitch.cli.output.tempfile.TemporaryFile", full)
    refused(capsys, f"--json: cannot write in {tmp_path}: No space left", "--json", str(tmp_path / "b.json"))
    refused(capsys, f"--plots: cannot write in {tmp_path}: No space left", "--plots", str(tmp_path))
