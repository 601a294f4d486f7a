"""`hybridstitch-trt verify`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from damage import damage, one_weight

from hybridstitch.cli import main


@pytest.fixture
def prepared(verified, monkeypatch) -> None:
    """The demo pair's report, without verifying it again."""
    monkeypatch.setattr("hybridstitch.verify.verify_pair.verify_pair", lambda *_, **__: verified)


def test_a_table_of_components_and_stages_and_a_verdict(capsys, prepared, verified):
    assert main(["verify", "--quick"]) == 0
    stdout = capsys.readouterr().out
    for row in verified.profiles:
        assert row.component in stdout
        assert row.profile in stdout
    for words in (
        "relative L2",
        "1 - cosine",
        "worst row",
        "at most",
        "hybrid stage",
        "same mask",
        "all right: 18 calls",
    ):
        assert words in stdout
    assert "all right: 18 calls and 3 stages" in stdout
    assert f"worst: {verified.worst[0].component}, {verified.worst[1]}, {verified.worst[2].output}" in stdout
    assert " off" not in stdout


def test_json_is_one_report_on_stdout_and_nothing_else(capsys, prepared, verified):
    assert main(["verify", "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["failures"] == []
    assert (report["pair"], report["backend"], report["device"]) == ("demo", "onnxruntime", "cpu")
    assert report["worst"]["component"] == verified.worst[0].component
    row = next(row for row in report["profiles"] if row["profile"] == "masked-50")
    assert row["bounds"].keys() == {"relative_l2", "cosine", "worst_row"}
    assert row["worst"]["relative_l2"] <= row["bounds"]["relative_l2"]
    assert row["cases"][0]["lengths"] == {"B": 2, "M": 128, "F": 128, "T": 25}
    assert {found["output"] for found in row["cases"][0]["outputs"]} >= {"velocity", "key.0", "value.0"}
    hybrid = next(stage for stage in report["stages"] if stage["stage"] == "hybrid")
    assert hybrid["ok"] is True
    assert hybrid["same_mask"] >= hybrid["least_same_mask"]


def test_a_wrong_engine_is_exit_code_1_and_every_failure_is_listed(capsys, demo_engines, tmp_path):
    folder = Path(shutil.copytree(demo_engines, tmp_path / "onnxruntime"))
    damage(folder, "small", one_weight(lambda value: -value))
    arguments = ["verify", "--engines", str(folder), "--component", "small", "--quick"]
    assert main(arguments) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout.count("off  small, full") == 2
    assert "2 off: 2 calls and 0 stages" in stdout
    assert "Traceback" not in stderr
    assert main([*arguments, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert len(report["failures"]) == 2
    assert report["stages"] == []


def test_saved_failures_are_named_below_the_failures_and_in_the_json_report(capsys, demo_engines, tmp_path):
    folder = Path(shutil.copytree(demo_engines, tmp_path / "onnxruntime"))
    damage(folder, "small", one_weight(lambda value: -value))
    arguments = ["verify", "--engines", str(folder), "--component", "small", "--quick"]
    arguments += ["--save-failures", str(tmp_path / "kept")]
    assert main(arguments) == 1
    stdout = capsys.readouterr().out
    saved = sorted(map(str, (tmp_path / "kept").iterdir()))
    assert len(saved) == 2
    assert sorted(line[7:] for line in stdout.splitlines() if line.startswith("saved  ")) == saved
    assert main([*arguments, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert sorted(case["saved"] for case in report["profiles"][0]["cases"]) == saved
    assert report["unsaved"] is None


def test_what_kept_a_failure_from_being_saved_is_told_and_changes_no_verdict(capsys, prepared, verified, monkeypatch):
    full = replace(verified, unsaved="kept/small cannot be saved: No space left on device")
    monkeypatch.setattr("hybridstitch.verify.verify_pair.verify_pair", lambda *_, **__: full)
    assert main(["verify", "--save-failures", "kept"]) == 0
    stdout = capsys.readouterr().out
    assert "not saved  kept/small cannot be saved: No space left on device" in stdout
    assert "nothing was saved" not in stdout


def test_the_last_line_says_that_nothing_was_saved_where_no_call_is_off(capsys, prepared, tmp_path):
    assert main(["verify", "--save-failures", str(tmp_path / "kept")]) == 0
    assert capsys.readouterr().out.rstrip().endswith("; nothing was saved: no call is off")
    assert main(["verify"]) == 0
    assert "saved" not in capsys.readouterr().out


def refused(capsys, words: str, *arguments: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that holds the words."""
    try:
        code = main(["verify", *arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.strip().count("\n") == 0
    assert words in captured.err


def test_bad_input_is_one_line_and_exit_code_2(capsys, demo_engines, tmp_path):
    engines = ("--engines", str(demo_engines))
    refused(capsys, "unknown component 'unet'; known: large, small, text_encoder", *engines, "--component", "unet")
    refused(capsys, "the text_encoder_3 engine of pair 'demo' is not built", *engines, "--component", "text_encoder_3")
    refused(capsys, "is not built", "--engines", str(tmp_path / "nothing"))
    refused(capsys, "hybridstitch-trt build --pair demo", "--engines", str(tmp_path / "nothing"))
    refused(capsys, "unknown pair 'nope'", "--pair", "nope")
    refused(capsys, "backend torch is the reference that engines are compared with", "--backend", "torch")
    refused(capsys, "seed must be a whole number from 0", *engines, "--seed", str(2**63))
    (tmp_path / "file").touch()
    refused(capsys, "--save-failures: cannot write in", *engines, "--save-failures", str(tmp_path / "file"))
    refused(capsys, "argument --save-failures: it names no file or folder", *engines, "--save-failures", "")
    refused(capsys, "threads must be a whole number from 1 to 1024, not 0", "--threads", "0")


def test_a_damaged_file_is_refused_before_anything_is_compared(capsys, demo_engines, tmp_path):
    folder = Path(shutil.copytree(demo_engines, tmp_path / "onnxruntime"))
    plan = next((folder / "small").glob("plan-*.onnx"))
    plan.write_bytes(plan.read_bytes()[:-1])
    refused(capsys, "is cut short", "--engines", str(folder), "--component", "small", "--quick")


def test_a_gpu_backend_without_a_gpu_says_so(capsys, demo_engines):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused(capsys, "no GPU for backend tensorrt_rtx", "--backend", "tensorrt_rtx", "--engines", str(demo_engines))
