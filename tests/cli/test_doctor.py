"""`hybridstitch-trt doctor`: what it finds, and what it warns of."""

import json

import pytest
import torch

from hybridstitch.cli import main
from hybridstitch.engines import backends, doctor
from hybridstitch.engines.cores import Load


def found(capsys, *arguments: str) -> dict[str, dict[str, str]]:
    assert main(["doctor", "--json", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    return {f"{finding['topic']}: {finding['what']}": finding for finding in report["findings"]}


def test_doctor_lists_machine_packages_gpus_and_backends(capsys):
    findings = found(capsys)
    assert findings["python: torch"]["found"] == torch.__version__
    assert "GiB free" in findings["machine: memory"]["found"]
    assert "CPUExecutionProvider" in findings["gpu: ONNX Runtime providers"]["found"]
    assert findings["backend: onnxruntime"]["state"] == "ok"
    assert {f"backend: {name}" for name in ("torch", "tensorrt", "tensorrt_rtx")} <= set(findings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_backend_without_its_gpu_says_what_it_needs(capsys):
    finding = found(capsys)["backend: tensorrt_rtx"]
    assert finding["state"] == "missing"
    assert "no GPU" in finding["found"]
    assert "builds plans here" in finding["advice"]


def test_two_tensorrts_are_a_warning(monkeypatch):
    versions = {"tensorrt-cu13-bindings": "11.4", "tensorrt-cu12-bindings": "10.9"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    finding = next(finding for finding in doctor._tensorrts() if finding.what == "TensorRT")
    assert finding.state == "warning"
    assert "tensorrt-cu13-bindings 11.4 and tensorrt-cu12-bindings 10.9" in finding.found


def test_bindings_without_their_libraries_are_told_alike_in_both_rows(monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda _: None)
    only = {"tensorrt-rtx-cu13-bindings": "1.7.1"}

    def version(name: str) -> str:
        if name in only:
            return only[name]
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(backends.metadata, "version", version)
    finding = next(finding for finding in doctor._tensorrts() if finding.what == "TensorRT for RTX")
    why = (
        "backend tensorrt_rtx needs TensorRT for RTX, which is there as tensorrt-rtx-cu13-bindings alone, without "
        "module tensorrt_rtx: pip install 'hybridstitch-trt[rtx]'"
    )
    assert (finding.state, finding.advice) == ("warning", why)
    assert finding.found == "tensorrt-rtx-cu13-bindings 1.7.1, which cannot be imported"
    assert doctor.obstacle("tensorrt_rtx", building=True) == why


def test_an_old_package_and_a_missing_one_say_what_to_type(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["torch>=99", "no-such-package>=1", "rich; extra=='x'"])
    old, missing = doctor._packages()
    assert (old.state, old.advice) == ("warning", "pip install 'torch>=99'")
    assert (missing.state, missing.found) == ("missing", "not installed")


def test_a_person_reads_extras_in_brackets(capsys):
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "machine" in shown
    assert "[/]" not in shown


@pytest.mark.parametrize(("average", "state"), [(5.0, "warning"), (0.1, "ok")])
def test_a_busy_machine_is_told_with_what_helps(monkeypatch, average, state):
    monkeypatch.setattr(doctor, "current_load", lambda: Load(average, 2, 2))
    monkeypatch.setattr(doctor, "physical_cores", lambda: 2)
    (finding,) = doctor._load()
    assert (finding.what, finding.state) == ("load", state)
    assert finding.found == f"{average} in the last minute, on 2 processors, 2 for this process"
    assert finding.advice.endswith("try --threads 1") == (state == "warning")
