"""What this machine has, and what each backend would still need to run engines on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement

from hybridstitch.method.errors import HybridStitchError

from .backends import BACKENDS, Backend, find_backend, require_gpu
from .cores import current_load, physical_cores
from .store.manifest import DISTRIBUTION
from .tensorrt_module import tensorrt_module

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. state: fine; works, but worth knowing; or something does not work without it."""

    topic: str
    what: str
    found: str
    state: State = "ok"
    advice: str = ""


def examine(folder: Path) -> list[Finding]:
    """Look at Python, packages, GPUs, memory, the disk that `folder` is on, and every backend."""
    return [
        Finding("machine", "system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Finding("machine", "processor cores", f"{physical_cores()} physical"),
        *_load(),
        *_memory(),
        *_disk(folder),
        Finding("python", "Python", platform.python_version()),
        *_packages(),
        *_gpus(),
        *_tensorrts(),
        *_providers(),
        *(_backend(backend) for backend in BACKENDS.values()),
    ]


def obstacle(name: str, *, building: bool = False) -> str | None:
    """Why a backend cannot run engines on this machine (or build them, for any GPU), in one line; None: it can.

    Raises:
        HybridStitchError: an unknown backend.
    """
    backend = find_backend(name)
    try:
        _ = backend.version
        if backend.is_tensorrt:
            tensorrt_module(name)
        if backend.needs_gpu and not building:
            require_gpu(backend)
    except HybridStitchError as error:
        return str(error)
    return None


def _load() -> Iterable[Finding]:
    load = current_load()
    if load is None:
        return
    figures = f"{load.average:.1f} in the last minute, on {load.machine} processors, {load.processors} for this process"
    advice = load.advice(physical_cores())
    yield Finding("machine", "load", figures, "warning" if advice else "ok", advice or "")


def _memory() -> Iterable[Finding]:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return
    yield Finding("machine", "memory", f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f} GiB")


def _disk(folder: Path) -> Iterable[Finding]:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    writable = os.access(existing, os.W_OK)
    if not writable:
        yield Finding("machine", "disk", f"{existing} cannot be written", "warning", "choose another --out")
        return
    state: State = "ok" if free > 1 else "warning"
    advice = "" if free > 1 else "engines of a large pair take as much as its checkpoints"
    yield Finding("machine", "disk", f"{free:.1f} GiB free in {existing}", state, advice)


def _packages() -> Iterable[Finding]:
    """Each requirement of this distribution against what is installed."""
    for text in metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding("python", requirement.name, "not installed", "missing", f"pip install '{requirement}'")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding("python", requirement.name, version)
        else:
            needs = f"needs {requirement.specifier}"
            yield Finding("python", requirement.name, f"{version}, {needs}", "warning", f"pip install '{requirement}'")


def _gpus() -> Iterable[Finding]:
    built = torch.version.cuda
    yield Finding("gpu", "CUDA of torch", built or "none: this is a CPU build", "ok" if built else "warning")
    driver = Path("/proc/driver/nvidia/version")
    try:
        words = driver.read_text().splitlines()[0].partition("Kernel Module")[2].split()
        yield Finding("gpu", "NVIDIA driver", next(word for word in words if word[0].isdigit()))
    except (OSError, StopIteration, IndexError):
        yield Finding("gpu", "NVIDIA driver", "none", "warning", "GPU backends need one")
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        memory = f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f} GiB"
        name = torch.cuda.get_device_name(index)
        yield Finding("gpu", f"GPU {index}", f"{name}, compute capability {major}.{minor}, {memory}")


def _tensorrts() -> Iterable[Finding]:
    """Every TensorRT that is installed. Two distributions of one module are a trap, and so are bindings alone."""
    for backend in (backend for backend in BACKENDS.values() if backend.is_tensorrt):
        installed = [f"{name} {version}" for name in backend.packages if (version := _version(name))]
        # The package of that name only pulls in the bindings of one CUDA version; two bindings get in each other's way.
        bindings = [name for name in installed if "-bindings" in name]
        if len(bindings) > 1:
            advice = "they overwrite each other: uninstall all but one"
            yield Finding("gpu", backend.title, " and ".join(bindings), "warning", advice)
        elif installed and (why := _import_failure(backend)):
            yield Finding("gpu", backend.title, f"{', '.join(installed)}, which cannot be imported", "warning", why)
        else:
            yield Finding("gpu", backend.title, ", ".join(installed) or "not installed")


def _import_failure(backend: Backend) -> str | None:
    """Why a TensorRT cannot be imported, in one line; None: it can."""
    try:
        tensorrt_module(backend.name)
    except HybridStitchError as error:
        return str(error)
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _providers() -> Iterable[Finding]:
    packages = [name for name in BACKENDS["onnxruntime"].packages if _version(name)]
    if len(packages) > 1:
        advice = "they overwrite each other: uninstall one"
        yield Finding("gpu", "ONNX Runtime", " and ".join(packages), "warning", advice)
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        yield Finding("gpu", "ONNX Runtime providers", ", ".join(onnxruntime.get_available_providers()))


def _backend(backend: Backend) -> Finding:
    why = obstacle(backend.name)
    if why is None:
        return Finding("backend", backend.name, "works here")
    builds = backend.name == "tensorrt_rtx" and obstacle(backend.name, building=True) is None
    return Finding("backend", backend.name, why, "missing", "it builds plans here all the same" if builds else "")
