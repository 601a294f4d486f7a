"""What a figure must say besides itself: the machine, the versions and the command."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "hybridstitch-trt",
    "torch",
    "diffusers",
    "transformers",
    "onnxruntime",
    "tensorrt-rtx",
    "tensorrt",
    "numpy",
)


def processor() -> str:
    """The processor's name, or what the platform calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def circumstances(command: Sequence[str], device: torch.device | None = None) -> dict[str, Any]:
    """Machine, versions and the command that measured.

    Args:
        device: what the engines ran on; a GPU's name is part of the machine.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.system()}
    if device is not None and device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return {
        "machine": machine,
        "python": platform.python_version(),
        "versions": versions,
        "command": shlex.join(command),
    }
