"""Every name that builder and executor touch exists in each TensorRT, also in those that cannot be run here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .touched import ENGINES, missing, touched

REPOSITORY = Path(__file__).parents[2]
STUBS = [
    *("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getPluginRegistry"),
    *("getBuilderPluginRegistry", "initLibNvInferPlugins", "getInferLibVersion", "getNvOnnxParserVersion"),
]
"""The functions that the bindings need to find in TensorRT's libraries when they are imported."""


def test_the_list_of_what_is_touched_comes_from_the_code():
    names = touched(rtx=True)
    assert {"OnnxParser.parse_from_file", "IExecutionContext.execute_async_v3", "ParserError.node_name"} <= names
    assert {"ILogger.Severity.ERROR", "ComputeCapability", "ICudaEngine.num_io_tensors"} <= names
    assert "IBuilderConfig.get_compute_capability" not in touched(rtx=False)
    assert (ENGINES / "builders" / "tensorrt_child.py").is_file()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the rtx extra")
def test_tensorrt_for_rtx_has_every_name():
    import tensorrt_rtx

    assert missing(tensorrt_rtx, touched(rtx=True)) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("package", "version", "without"),
    [
        ("tensorrt-cu13-bindings", "11.4.0.106", []),
        ("tensorrt-cu12-bindings", "10.8.0.43", ["HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"]),
    ],
)
def test_tensorrt_s_own_bindings_have_every_name(tmp_path, package, version, without):
    download = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(tmp_path),
        f"{package}=={version}",
    ]
    if subprocess.run(download, check=False, capture_output=True).returncode:
        pytest.skip(f"no package index has {package} {version}")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path)
    write_stubs(tmp_path, version.split(".")[0])
    check = [sys.executable, "-m", "tests.engines.touched", str(tmp_path), "tensorrt_bindings", *touched(rtx=False)]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    lacking = subprocess.run(check, check=True, capture_output=True, text=True, cwd=REPOSITORY, env=environment).stdout
    assert lacking.split() == without


def write_stubs(folder: Path, major: str) -> None:
    """Libraries that let the bindings import and do nothing."""
    (folder / "stub.c").write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in STUBS))
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        target = folder / f"lib{library}.so.{major}"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(target), str(folder / "stub.c")], check=True)
