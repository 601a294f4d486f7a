"""Which backends there are, which are usable, and which options each has."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from hybridstitch.engines import backends
from hybridstitch.engines.backends import BACKENDS, Hardware, find_backend, find_device, hardware, require_gpu
from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.builders.options import BuildOptions, rtx_targets
from hybridstitch.engines.doctor import obstacle
from hybridstitch.engines.store.folder import Store
from hybridstitch.engines.store.manifest import check_usable, outdated
from hybridstitch.method.errors import HybridStitchError

from ..fake_cuda import FakeCuda
from .handmade import make_recipe, open_engine


def test_an_unknown_backend_is_refused_with_the_known_ones(exported, tmp_path):
    expected = "unknown backend 'openvino'; known: onnxruntime, torch, tensorrt, tensorrt_rtx"
    for call in (
        lambda: find_backend("openvino"),
        lambda: build_pair(make_recipe(), exported, tmp_path, "openvino"),
        lambda: open_engine(tmp_path, "large", backend="openvino"),
        lambda: BuildOptions().check("openvino"),
    ):
        with pytest.raises(HybridStitchError) as caught:
            call()
        assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tensorrt",
            "backend tensorrt needs TensorRT, which is not installed: pip install 'hybridstitch-trt[tensorrt]'",
        ),
        (
            "tensorrt_rtx",
            "backend tensorrt_rtx needs TensorRT for RTX, which is not installed: pip install 'hybridstitch-trt[rtx]'",
        ),
    ],
)
def test_a_missing_package_is_told_with_what_installs_it(name, message, monkeypatch, exported, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    monkeypatch.setattr(backends, "_is_installed", lambda package: False)
    assert obstacle(name) == message
    with pytest.raises(HybridStitchError, match="pip install"):
        build_pair(make_recipe(), exported, tmp_path, name)


def test_the_cpu_backends_are_always_usable():
    assert obstacle("onnxruntime") is None
    assert obstacle("torch") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_backend_without_a_gpu_says_which_backends_do_without(monkeypatch):
    monkeypatch.setattr(type(BACKENDS["tensorrt"]), "version", "11.0")
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    assert obstacle("tensorrt", building=True) is None
    assert str(obstacle("tensorrt")).startswith("no GPU for backend tensorrt: torch ")
    assert str(obstacle("tensorrt")).endswith("; on a CPU use --backend onnxruntime or --backend torch")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("10.7.0", "backend tensorrt needs TensorRT 10.8 or later; here is 10.7.0"),
        ("11.0", "backend tensorrt: TensorRT 11.0 does not load: "),
    ],
)
def test_a_tensorrt_that_cannot_be_used_is_an_obstacle(version, message, monkeypatch):
    monkeypatch.setattr(type(BACKENDS["tensorrt"]), "version", version)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for building in (True, False):
        assert str(obstacle("tensorrt", building=building)).startswith(message)


def test_a_gpu_that_tensorrt_for_rtx_has_no_kernels_for_is_refused(monkeypatch, exported, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(type(BACKENDS["tensorrt_rtx"]), "version", "1.5")
    require_gpu(BACKENDS["tensorrt"])
    expected = r"backend tensorrt_rtx has no kernels for NVIDIA H200 \(compute capability 9.0\), only for SM75, SM80"
    with pytest.raises(HybridStitchError, match=expected):
        require_gpu(BACKENDS["tensorrt_rtx"])
    with pytest.raises(HybridStitchError, match=expected):
        build_pair(make_recipe(), exported, tmp_path, "tensorrt_rtx")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    require_gpu(BACKENDS["tensorrt_rtx"])


def test_a_backend_on_the_wrong_device_is_refused(built):
    with pytest.raises(
        HybridStitchError, match=r"backend onnxruntime runs on the CPU, not on meta; for a GPU use --backend"
    ):
        open_engine(built, "large", backend="onnxruntime", device="meta")


@pytest.mark.parametrize("name", ["banana", "", "cuda:x", "cuda:-1", "cuda:256", 1.5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_device_that_torch_does_not_know_is_told_beside_those_that_are_here(monkeypatch, name, backend):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HybridStitchError) as caught:
        find_device(BACKENDS[backend], name)
    assert str(caught.value) == f"unknown device '{name}'; this machine has cpu"


def test_a_gpu_that_is_not_there_is_told_beside_those_that_are(monkeypatch):
    FakeCuda(monkeypatch)
    with pytest.raises(HybridStitchError) as caught:
        find_device(BACKENDS["torch"], "cuda:7")
    assert str(caught.value) == "no such GPU: cuda:7; this machine has cpu, cuda:0 (NVIDIA L4), cuda:1 (NVIDIA H200)"


def test_the_gpu_that_was_named_is_judged_and_not_the_current_one(monkeypatch):
    FakeCuda(monkeypatch)
    rtx = BACKENDS["tensorrt_rtx"]
    assert find_device(rtx, None) == find_device(rtx, "cuda") == find_device(rtx, "cuda:0") == torch.device("cuda:0")
    with pytest.raises(HybridStitchError, match=r"no kernels for NVIDIA H200 \(compute capability 9.0\)"):
        find_device(rtx, "cuda:1")
    assert find_device(BACKENDS["tensorrt"], "cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("backend", "device", "words"),
    [
        ("tensorrt", "cpu", "backend tensorrt runs on a GPU, not on cpu"),
        ("onnxruntime", "cuda:1", "backend onnxruntime runs on the CPU, not on cuda:1; for a GPU use --backend"),
        ("torch", "meta", "backend torch runs on the CPU or an NVIDIA GPU, not on meta"),
    ],
)
def test_a_device_that_a_backend_does_not_run_on_is_refused(backend, device, words):
    with pytest.raises(HybridStitchError, match=words):
        find_device(BACKENDS[backend], device)


def test_the_cpu_has_a_name_and_no_compute_capability():
    assert hardware(torch.device("cpu")) == Hardware("CPU")


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("tensorrt", {"workspace_gib": 0}, "workspace must be over 0 GiB, not 0"),
        ("tensorrt", {"optimization_level": 6}, "optimization level must be a whole number from 0 to 5, not 6"),
        (
            "onnxruntime",
            {"workspace_gib": 1},
            "backend onnxruntime has no option workspace_gib; its options: static_batch",
        ),
        ("torch", {"static_batch": True}, "backend torch has no option static_batch; its options: none"),
        (
            "tensorrt_rtx",
            {"compute_capabilities": ("SM90",)},
            "compute capability 'SM90' is none that tensorrt_rtx builds for: SM75, SM80, SM86, SM89, SM120, SM121",
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(backend, options, message):
    with pytest.raises(HybridStitchError) as caught:
        BuildOptions(**options).check(backend)
    assert str(caught.value) == message


def test_a_timing_cache_that_cannot_be_kept_is_refused_before_the_build(tmp_path):
    for file, message in [
        (tmp_path / "none" / "cache", rf"timing cache \S+: there is no folder {tmp_path}/none; make it first"),
        (tmp_path, r"timing cache \S+ is no file that can be read"),
    ]:
        with pytest.raises(HybridStitchError, match=message):
            BuildOptions(timing_cache=file).check("tensorrt")
    BuildOptions(timing_cache=tmp_path / "cache").check("tensorrt")


def test_turing_is_built_for_where_its_dtype_allows():
    assert rtx_targets("float16")[0] == "SM75"
    assert rtx_targets("float32")[0] == rtx_targets("bfloat16")[0] == "SM80"


@pytest.mark.parametrize(
    ("options", "here", "runs"),
    [
        ({}, "11.3", True),
        ({}, "11.4", False),
        ({"version_compatible": True}, "11.3", True),
        ({"version_compatible": True}, "11.10", True),
        ({"version_compatible": True}, "11.2.9", False),
        ({"version_compatible": True}, "12.0", False),
    ],
)
def test_a_plan_runs_on_its_version_or_if_built_for_it_on_later_ones_of_its_major(
    built, options, here, runs, monkeypatch
):
    monkeypatch.setattr(type(BACKENDS["tensorrt"]), "version", here)
    monkeypatch.setattr(type(BACKENDS["tensorrt"]), "installed", True)
    manifest = replace(Store(built).manifest("large"), backend="tensorrt", backend_version="11.3", options=options)
    assert outdated(manifest) == ([] if runs else [f"it was built by TensorRT 11.3, here is {here}"])


@pytest.mark.parametrize(
    ("targets", "here", "runs"),
    [
        ((), Hardware("NVIDIA L4", "8.9"), True),
        ((), Hardware("NVIDIA GeForce RTX 4090", "8.9"), False),
        (("SM86", "SM89"), Hardware("NVIDIA GeForce RTX 4090", "8.9"), True),
        (("SM86", "SM89"), Hardware("NVIDIA H200", "9.0"), False),
        (("SM80+",), Hardware("NVIDIA H200", "9.0"), True),
        (("SM80+",), Hardware("NVIDIA GeForce RTX 5090", "12.0"), True),
        (("SM80+",), Hardware("Tesla T4", "7.5"), False),
    ],
)
def test_a_plan_runs_on_the_gpu_it_was_built_for_or_on_those_it_covers(built, targets, here, runs, monkeypatch):
    monkeypatch.setattr(type(BACKENDS["tensorrt"]), "version", "11.4")
    manifest = replace(
        Store(built).manifest("large"),
        backend="tensorrt",
        backend_version="11.4",
        hardware=Hardware("NVIDIA L4", "8.9"),
        targets=targets,
    )
    if runs:
        check_usable(manifest, backend="tensorrt", hardware=here, rebuild="again")
        return
    built_for = f"GPUs {', '.join(targets)}" if targets else "NVIDIA L4 (compute capability 8.9)"
    with pytest.raises(HybridStitchError) as caught:
        check_usable(manifest, backend="tensorrt", hardware=here, rebuild="again")
    assert str(caught.value) == (
        f"the large engine of pair 'mini' cannot be used: it was built for {built_for}, here is {here}. "
        "Build it again: again"
    )
