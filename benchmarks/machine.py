"""What a figure must say besides itself: the machine, the versions and the command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("hybridstitch-trt", "torch", "diffusers", "transformers", "onnxruntime", "tensorrt-rtx", "numpy")


def processor() -> str:
    """The processor's name, or what the platform calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def circumstances(module: str) -> dict[str, Any]:
    """Machine, versions and the command that measured."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "machine": {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.system()},
        "python": platform.python_version(),
        "versions": versions,
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
    }


def save(name: str, module: str, measured: Mapping[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**circumstances(module), **measured}, indent=1) + "\n")
    return path
