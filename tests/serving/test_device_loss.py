"""Which errors mean that the device is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving.device_loss import device_loss
from hybridstitch.serving.process_exit import LOST_EXIT_CODE

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
ILLEGAL = "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in the docs."


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError(ILLEGAL),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: no CUDA-capable device is detected"),
        RuntimeError("[Error Code::CUDA_ERROR_MISALIGNED_ADDRESS]"),
        RuntimeError("cudaErrorLaunchFailure (719)"),
        HybridStitchError("the large engine failed: Cuda Runtime (an illegal memory access was encountered)"),
    ],
    ids=str,
)
def test_a_cuda_error_that_stays_is_a_lost_device(error):
    why = device_loss(error, GPU)
    assert why is not None
    assert why.startswith("cuda:0 is lost: ")
    assert "\n" not in why


def test_a_cuda_error_behind_another_error_is_a_lost_device():
    error = HybridStitchError("the large engine failed")
    error.__context__ = torch.AcceleratorError(ILLEGAL)
    assert "an illegal memory access" in (device_loss(error, CPU) or "")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: invalid argument"),
        RuntimeError("misaligned address of a letter"),
        MemoryError(),
        KeyError("x"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("device", [CPU, GPU])
def test_another_error_is_none_while_the_device_answers(error, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    assert device_loss(error, device) is None


def test_a_gpu_that_does_not_answer_is_lost_whatever_the_error_was(monkeypatch):
    def refuse(_device):
        raise RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(torch.cuda, "synchronize", refuse)
    assert device_loss(HybridStitchError("the large engine failed"), GPU) == "cuda:0 is lost: CUDA error: unknown error"
    assert device_loss(HybridStitchError("the large engine failed"), CPU) is None


def test_a_gpu_without_memory_for_the_question_is_not_lost(monkeypatch):
    def refuse(_device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "synchronize", refuse)
    assert device_loss(RuntimeError("x"), GPU) is None


def test_a_process_ends_with_the_code_that_the_guide_names():
    program = "from hybridstitch.serving.process_exit import end_process; end_process('gone')"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == LOST_EXIT_CODE
    assert done.stderr == f"the process ends with exit code {LOST_EXIT_CODE}: gone\n"
    assert f"exit code **{LOST_EXIT_CODE}**" in (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
