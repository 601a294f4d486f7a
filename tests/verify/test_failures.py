"""Calls that were off, on disk: what is kept, that its command repeats the failure, and what can go wrong meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from damage import damage, one_weight
from polygraphy.json import load_json

from hybridstitch.engines.store.folder import Store
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.verify.call_cases import CallCase
from hybridstitch.verify.compare import CALL_BOUNDS
from hybridstitch.verify.failures import FailedCall, FailureFolder, require_place
from hybridstitch.verify.verify_pair import verify_pair

from ..engines.handmade import GEOMETRY, compute, random_inputs, weights

BIN = Path(sys.executable).parent


def polygraphy(command: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Paste a written command into a shell, as a person would."""
    text = command.read_text().rstrip("\n") + " " + " ".join(more)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def demo(demo_engines, tmp_path) -> Path:
    """The demo pair's engines, the small one damaged."""
    folder = Path(shutil.copytree(demo_engines, tmp_path / "onnx runtime"))
    damage(folder, "small", one_weight(lambda value: -value))
    return folder


def verify_small(engines: Path, folder: Path):
    return verify_pair("demo", engines=engines, components=["small"], quick=True, save_failures=folder)


@pytest.fixture(scope="module")
def manifest(built) -> Manifest:
    """Of the tiny pair's large engine."""
    return Store(built).manifest("large")


def a_call(manifest: Manifest, frozen: int = 0, dtype: torch.dtype = torch.float32, place: str = "opt") -> FailedCall:
    """A call of the tiny large engine whose outputs are all wrong."""
    inputs = random_inputs(batch=2, tokens=16, frozen=frozen)
    expected = compute(dict(inputs), weights())
    inputs, expected = ({name: tensor.to(dtype) for name, tensor in part.items()} for part in (inputs, expected))
    return FailedCall(
        manifest=manifest,
        case=CallCase("full", place, {"B": 2, "M": 16, "F": frozen, "T": GEOMETRY.text_tokens}),
        failures=["large, velocity: relative L2 2, at most 4e-05"],
        bounds=CALL_BOUNDS["float32"],
        inputs=inputs,
        outputs={name: -tensor for name, tensor in expected.items()},
        expected=expected,
        seconds=0.5,
    )


def test_the_written_command_fails_as_the_engine_did_and_passes_with_a_healthy_one(demo, demo_engines, tmp_path):
    report = verify_small(demo, tmp_path / "kept calls")
    saved = [case.saved for case in report.profiles[0].cases]
    assert saved == report.saved == sorted((tmp_path / "kept calls").iterdir(), key=lambda path: "low" in path.name)
    assert saved[0] is not None
    assert saved[0].name == "small-full-opt-B2-M256-T25"
    assert (saved[0] / "command.sh").read_text().startswith("# small, full opt (B 2, M 256, T 25), velocity: relative")
    run = polygraphy(saved[0] / "command.sh")
    assert run.returncode == 1, run.stderr
    assert "FAILED | L2 Norm" in run.stdout + run.stderr
    shutil.copytree(demo_engines / "small", demo / "small", dirs_exist_ok=True)
    run = polygraphy(saved[0] / "command.sh")
    assert run.returncode == 0, run.stderr


def test_nothing_is_written_when_no_call_is_off(demo_engines, tmp_path):
    report = verify_small(demo_engines, tmp_path / "kept")
    assert (report.ok, report.saved, report.unsaved) == (True, [], None)
    assert not (tmp_path / "kept").exists()


def test_inputs_and_outputs_come_back_as_they_were_also_those_without_a_single_value(built, manifest, tmp_path):
    call = a_call(manifest)
    folder = FailureFolder(tmp_path, Store(built)).save(call)
    assert folder is not None
    (inputs,) = load_json(str(folder / "inputs.json"))
    assert {name: list(array.shape) for name, array in inputs.items()} == {
        name: list(tensor.shape) for name, tensor in call.inputs.items()
    }
    assert inputs["frozen_key.0"].size == 0
    for file, runner, tensors in (("engine", "engine", call.outputs), ("reference", "pytorch", call.expected)):
        (found,) = load_json(str(folder / f"{file}_outputs.json"))[runner]
        assert found.keys() == tensors.keys()
        assert all(torch.equal(torch.from_numpy(found[name]), tensor) for name, tensor in tensors.items())


def test_bfloat16_is_kept_as_torch_tensors_without_the_memory_that_they_are_views_of(built, manifest, tmp_path):
    call = a_call(manifest, dtype=torch.bfloat16)
    large = torch.zeros(1 << 20, dtype=torch.bfloat16)
    call = replace(call, inputs={**call.inputs, "pooled": large[:8].reshape(2, 4)})
    folder = FailureFolder(tmp_path, Store(built)).save(call)
    assert folder is not None
    (inputs,) = load_json(str(folder / "inputs.json"))
    assert inputs.keys() == call.inputs.keys()
    assert all(torch.equal(inputs[name], tensor) for name, tensor in call.inputs.items())
    assert all(inputs[name].dtype == torch.bfloat16 for name in inputs)
    assert (folder / "inputs.json").stat().st_size < 100_000


def test_of_a_call_that_could_not_run_there_are_no_outputs_but_what_they_should_have_been(built, manifest, tmp_path):
    folder = FailureFolder(tmp_path, Store(built)).save(replace(a_call(manifest), outputs={}))
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {"inputs.json", "reference_outputs.json", "command.sh"}


def test_a_reference_that_gave_nan_is_a_limit_of_nothing(built, manifest, tmp_path):
    call = a_call(manifest)
    folder = FailureFolder(tmp_path, Store(built)).save(
        replace(call, expected={"velocity": torch.full((2, 16, 4), torch.nan)})
    )
    assert folder is not None
    assert "--l2-threshold velocity:0 " in (folder / "command.sh").read_text()


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_a_plan_of_tensorrt_is_run_in_the_profile_of_the_call_by_the_library_that_built_it(
    built, manifest, tmp_path, backend
):
    index = next(place for place, profile in enumerate(manifest.profiles) if profile.name == "masked-50")
    profile = manifest.profiles[index]
    lengths = {symbol: typical for symbol, (_, typical, _) in profile.ranges.items()}
    call = a_call(replace(manifest, backend=backend, options={"weight_streaming": True}), dtype=torch.bfloat16)
    folder = FailureFolder(tmp_path, Store(built)).save(replace(call, case=CallCase("masked-50", "opt", lengths)))
    assert folder is not None
    command = (folder / "command.sh").read_text()
    assert ("POLYGRAPHY_USE_TENSORRT_RTX=1 polygraphy" in command) is (backend == "tensorrt_rtx")
    script = polygraphy(folder / "command.sh", "--gen", str(tmp_path / "script.py"))
    assert script.returncode == 0, script.stderr
    script = (tmp_path / "script.py").read_text()
    assert f"optimization_profile={index}" in script
    assert "weight_streaming_budget=-1" in script
    assert "EngineFromPath" in script or "EngineFromBytes" in script


def test_each_place_of_a_profile_has_a_folder_and_an_earlier_one_is_replaced(built, manifest, tmp_path):
    folder = FailureFolder(tmp_path, Store(built))
    first, other = (folder.save(a_call(manifest, place=place)) for place in ("opt", "low between"))
    assert first is not None
    assert {path.name for path in tmp_path.iterdir()} == {
        f"large-full-{x}-B2-M16-F0-T3" for x in ("opt", "low-between")
    }
    (first / "notes").write_text("of the call before")
    assert FailureFolder(tmp_path, Store(built)).save(a_call(manifest)) == first
    assert {path.name for path in first.iterdir()} == {
        "inputs.json",
        "engine_outputs.json",
        "reference_outputs.json",
        "command.sh",
    }
    assert other is not None


def test_a_full_disk_costs_what_was_not_saved_yet_and_not_the_report(demo, tmp_path, monkeypatch):
    written, whole = [], Path.write_text

    def write_text(path: Path, *content, **options):
        if "low-between" in str(path) and path.name == "reference_outputs.json":
            path.touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return whole(path, *content, **options)

    monkeypatch.setattr(Path, "write_text", write_text)
    report = verify_small(demo, tmp_path / "kept")
    assert len(report.failures) == 2
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["small-full-opt-B2-M256-T25"]
    assert report.saved == list((tmp_path / "kept").iterdir())
    place = tmp_path / "kept" / "small-full-low-between-B3-M245-T25"
    assert report.unsaved == f"{place} cannot be saved: No space left on device"
    assert report.as_dict()["unsaved"] == report.unsaved


def test_after_one_that_cannot_be_saved_no_other_is_tried(built, manifest, tmp_path):
    (tmp_path / "kept").touch()
    folder = FailureFolder(tmp_path / "kept", Store(built))
    assert folder.save(a_call(manifest)) is None
    problem = folder.problem
    (tmp_path / "kept").unlink()
    assert folder.save(a_call(manifest, place="min")) is None
    assert folder.problem == problem
    assert "cannot be saved: File exists" in str(problem)


@pytest.mark.parametrize(
    ("place", "words"),
    [("file", "Not a directory"), ("file/below", "Not a directory"), ("n" * 300, "File name too long")],
)
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_verified(tmp_path, monkeypatch, place, words):
    (tmp_path / "file").touch()
    monkeypatch.setattr("hybridstitch.verify.verify_pair.find_built", lambda *_: pytest.fail("it has started"))
    with pytest.raises(HybridStitchError) as refusal:
        verify_pair("demo", save_failures=tmp_path / place)
    assert str(refusal.value) == f"--save-failures: cannot write in {tmp_path / place}: {words}"


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path):
    require_place(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
