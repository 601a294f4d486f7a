"""`run --dry-run` shows what a run would do, and draws nothing."""

from __future__ import annotations

import json

import pytest

from hybridstitch.cli import main
from hybridstitch.engines.executors import onnxruntime_engine
from hybridstitch.method.errors import HybridStitchError

STAR = "a large red star on a navy background"
THREE_STAGES = ["--steps", "8", "--large-steps", "3", "--hybrid-steps", "4", "--refresh-every", "2"]
THREE_STAGES += ["--mask-ratio", "0.3"]
SKETCHED = [*THREE_STAGES, "--sketch", "small", "--score", "gap", "--residual", "3"]


@pytest.fixture
def dry(capsys, demo_engines, tmp_path, monkeypatch):
    """Runs the command in an empty folder; no engine may be opened."""

    def opened(*_arguments, **_options):
        raise AssertionError("a dry run opened an engine")

    monkeypatch.setattr(onnxruntime_engine.OnnxRuntimeEngine, "__init__", opened)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["run", "--engines", str(demo_engines), "--dry-run", "--prompt", STAR, *arguments])
        assert list(tmp_path.iterdir()) == []
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_dry_run_reports_the_program_its_cost_and_its_memory_and_opens_no_engine(dry):
    code, out, err = dry("--json", *SKETCHED)
    assert (code, err) == (0, "")
    report = json.loads(out)
    kinds = [step["kind"] for step in report["program"]]
    assert kinds == ["full", "full", "full", "hybrid", "hybrid", "full", "hybrid", "small"]
    assert (report["masked_tokens"], report["image_tokens"], report["rows"], report["batches"]) == (80, 256, 2, [1])
    shares = [step["share_of_full_step"] for step in report["program"]]
    full, small = shares[0], shares[-1]
    assert full == 1.0
    assert shares[2] == pytest.approx(full + small)  # the gap takes another call of the small model
    assert small < shares[3] < 1 + small
    assert report["cost"] == pytest.approx(sum(shares))
    assert report["memory"]["total"] == sum(size for name, size in report["memory"].items() if name != "total")
    assert report["fits"] is True


def test_a_held_step_costs_the_masked_call_alone(dry):
    gap = [*THREE_STAGES, "--score", "gap", "--json"]
    held, sketched = (json.loads(dry(*gap, "--sketch", sketch)[1]) for sketch in ("held", "small"))
    small = held["program"][-1]["share_of_full_step"]
    costs = [report["program"][3]["share_of_full_step"] for report in (held, sketched)]
    assert costs[1] == pytest.approx(costs[0] + small)


def test_steps_that_are_alike_share_a_row_for_people(dry):
    code, out, _ = dry(*SKETCHED)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["1-2", "large", "full", "256", "-", "2", "x", "1.00", "-"] in rows
    assert "full steps of the large model" in out
    assert "memory:" in out
    assert "it fits" in out


def test_a_dry_run_says_where_held_tokens_move_on_and_are_corrected_and_counts_the_memory_that_it_takes(dry):
    held = [*THREE_STAGES, "--sketch", "held", "--score", "change", "--json"]
    moving = [*held, "--extrapolate", "0.5", "--correct", "on"]
    _, out, _ = dry(*(word for word in moving if word != "--json"))
    assert "held tokens move on by 0.5" in out
    assert "correct held tokens" in " ".join(out.split())
    before, after = (json.loads(dry(*settings)[1])["memory"] for settings in (held, moving))
    assert after["keys_values"] > before["keys_values"]
    assert after["latents"] > before["latents"]


def test_several_prompts_are_told_in_the_batches_that_they_would_be_drawn_in(dry):
    code, out, _ = dry("--json", *(["--prompt", STAR] * 4))
    assert code == 0
    assert json.loads(out)["batches"] == [4, 1]


def test_what_a_run_refuses_a_dry_run_refuses_in_the_same_words(dry):
    code, out, err = dry("--size", "64x64")
    assert (code, out) == (2, "")
    assert "size 64x64 is 64 image tokens and the engines in" in err


def test_where_the_checkpoints_are_not_here_the_cost_is_not_known_and_all_else_is(dry, monkeypatch):
    def gone(*_):
        raise HybridStitchError("the large checkpoint is not here")

    monkeypatch.setattr("hybridstitch.cli.dry_run.step_shares", gone)
    code, out, _ = dry(*SKETCHED)
    assert code == 0
    assert "cost: not known (the large checkpoint is not here)" in out
    assert "memory:" in out


def test_a_device_with_too_little_memory_is_told(dry, monkeypatch):
    monkeypatch.setattr("hybridstitch.cli.dry_run.free_bytes", lambda device: 2**20)
    assert "1.0 MiB free: it does NOT fit" in " ".join(dry(*SKETCHED)[1].split())
