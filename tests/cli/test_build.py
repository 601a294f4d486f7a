"""`hybridstitch-trt export`, `build` and `inspect`: what they make, say and refuse."""

import json
import shutil

import pytest

from hybridstitch.cli import main


def test_build_exports_builds_and_the_second_time_does_nothing(demo_onnx, tmp_path, capsys):
    arguments = ["build", "--pair", "demo", "--onnx", str(demo_onnx), "--out", str(tmp_path / "engines")]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert main(arguments) == 0
    second = capsys.readouterr().out
    for component in ("large", "small", "text_encoder", "text_encoder_2", "vae_decoder"):
        assert f"{component:15} built" in first
        assert f"{component:15} unchanged" in second


def test_export_says_where_the_graphs_are(demo_onnx, capsys):
    assert main(["export", "--pair", "demo", "--out", str(demo_onnx)]) == 0
    assert str(demo_onnx) in capsys.readouterr().out


def test_inspect_shows_tensors_profiles_and_the_memory_of_a_run(demo_engines, capsys):
    assert main(["inspect", "--engines", str(demo_engines)]) == 0
    shown = capsys.readouterr().out
    for word in ("frozen_key.0 ... .5 [B, 6, F, 32]", "profile masked-30", "128x128", "scratch"):
        assert word in shown


def test_inspect_needs_no_plan_only_its_manifest(demo_engines, tmp_path, capsys):
    folder = tmp_path / "engines"
    shutil.copytree(demo_engines, folder)
    for plan in folder.glob("*/plan-*"):
        plan.unlink()
    assert main(["inspect", "--engines", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["engines"]) == {"large", "small", "text_encoder", "text_encoder_2", "vae_decoder"}
    one, _, four = [row for row in report["memory"] if row["size"] == "128x128"]
    # 6 attentions, keys and values, 2 halves, 6 heads of 32, float32: 256 tokens fresh and 176 frozen
    assert one["keys_values"] == 6 * 2 * 2 * (256 + 176) * 6 * 32 * 4
    assert four["keys_values"] == 4 * one["keys_values"]
    assert 3.5 * one["scratch"] < four["scratch"] < 4.5 * one["scratch"]
    assert one["total"] == sum(one[part] for part in ("weights", "keys_values", "latents", "scratch"))
    assert one["weights"] > 30e6


def test_a_run_without_a_hybrid_stage_keeps_no_keys(demo_engines, capsys):
    assert main(["inspect", "--engines", str(demo_engines), "--method", "large", "--json"]) == 0
    assert {row["keys_values"] for row in json.loads(capsys.readouterr().out)["memory"]} == {0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--pair", "nope"], "unknown pair 'nope'"),
        (["build", "--backend", "abacus"], "invalid choice: 'abacus'"),
        (["build", "--optimization-level", "3"], "backend onnxruntime has no option optimization_level"),
        (["build", "--backend", "tensorrt_rtx", "--compute-capability", "SM1"], "compute capability 'SM1' is none"),
        (["build", "--backend", "tensorrt_rtx", "--workspace", "-1"], "workspace must be over 0 GiB, not -1"),
        (["build", "--out", "/proc/engines"], "/proc/engines"),
        (["export", "--dtype", "float8"], "invalid choice: 'float8'"),
        (["export", "--out", "/proc/onnx"], "/proc"),
        (["inspect", "--engines", "/nowhere"], "is not built: /nowhere holds none"),
        (["inspect", "--method", "magic"], "unknown method 'magic'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_code_2(demo_onnx, capsys, arguments, words):
    if arguments[0] == "build" and "nope" not in arguments:
        arguments = [*arguments, "--onnx", str(demo_onnx)]
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1
    assert words in captured.err
