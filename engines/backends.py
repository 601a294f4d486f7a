"""What can run an engine: the four backends, whether they are installed, and the device that they run on."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata

import torch

from hybridstitch.method.errors import HybridStitchError


@dataclass(frozen=True)
class Backend:
    """One way to run an engine.

    module, packages: what is imported, and the distributions that bring it (any of them).
    extra: the extra of hybridstitch-trt that installs it; None: it always comes along.
    needs_gpu: whether running needs an NVIDIA GPU.
    targets: the compute capabilities that it builds for, as "SM89"; none: whatever GPU there is.
    """

    name: str
    title: str
    module: str
    packages: tuple[str, ...]
    extra: str | None
    needs_gpu: bool
    targets: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """The installed version.

        Raises:
            HybridStitchError: it is not installed; the message names the extra that brings it.
        """
        if self.installed:
            for package in self.packages:
                try:
                    return metadata.version(package)
                except metadata.PackageNotFoundError:
                    continue
        hint = f"pip install 'hybridstitch-trt[{self.extra}]'" if self.extra else f"pip install {self.packages[0]}"
        parts = [package for package in self.packages if _is_installed(package)]
        lack = f"is there as {parts[0]} alone, without module {self.module}" if parts else "is not installed"
        raise HybridStitchError(f"backend {self.name} needs {self.title}, which {lack}: {hint}")

    @property
    def is_tensorrt(self) -> bool:
        return self.name.startswith("tensorrt")


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


ONNXRUNTIME_QUIET = 3
"""Of ONNX Runtime's log levels: errors only."""

BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "onnxruntime", "ONNX Runtime", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), None, needs_gpu=False
        ),
        Backend("torch", "PyTorch", "torch", ("torch",), None, needs_gpu=False),
        Backend(
            "tensorrt",
            "TensorRT",
            "tensorrt",
            ("tensorrt", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings"),
            "tensorrt",
            needs_gpu=True,
        ),
        Backend(
            "tensorrt_rtx",
            "TensorRT for RTX",
            "tensorrt_rtx",
            ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
            "rtx",
            needs_gpu=True,
            targets=("SM75", "SM80", "SM86", "SM89", "SM120", "SM121"),
        ),
    )
}


def find_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        HybridStitchError: there is none; the message lists those that there are.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise HybridStitchError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def find_device(backend: Backend, name: torch.device | str | None) -> torch.device:
    """The device of that name, a GPU with its index.

    Without a name it is the CPU, or the current GPU for a backend that needs one.

    Raises:
        HybridStitchError: torch does not know the name, the machine has no such device, or the backend cannot use it.
    """
    try:
        place = torch.device(name if name is not None else "cuda" if backend.needs_gpu else "cpu")
        if isinstance(name, str) and str(place) != name:  # torch reads cuda:256 as cuda:0
            raise ValueError(name)
    except (RuntimeError, TypeError, ValueError):
        raise HybridStitchError(f"unknown device {str(name)!r}; this machine has {_devices_here()}") from None
    if backend.needs_gpu and place.type != "cuda":
        raise HybridStitchError(f"backend {backend.name} runs on a GPU, not on {place}")
    if backend.name == "onnxruntime" and place.type != "cpu":
        raise HybridStitchError(
            f"backend onnxruntime runs on the CPU, not on {place}; "
            "for a GPU use --backend tensorrt_rtx, tensorrt or torch"
        )
    if place.type not in ("cpu", "cuda"):
        raise HybridStitchError(f"backend {backend.name} runs on the CPU or an NVIDIA GPU, not on {place}")
    if place.type == "cpu":
        return torch.device("cpu")
    require_gpu(backend, place)
    return place if place.index is not None else torch.device("cuda", torch.cuda.current_device())


def require_gpu(backend: Backend, device: torch.device | None = None) -> None:
    """Refuse a GPU that torch and the backend cannot use: by default the current one.

    Raises:
        HybridStitchError: the message says whether the GPU or a CUDA build of torch is missing, which GPUs there are,
            or which compute capabilities the backend has.
    """
    if not torch.cuda.is_available():
        why = (
            f"torch {torch.__version__} is built without CUDA"
            if torch.version.cuda is None
            else "torch finds no NVIDIA GPU or no driver"
        )
        raise HybridStitchError(
            f"no GPU for backend {backend.name}: {why}; on a CPU use --backend onnxruntime or --backend torch"
        )
    if device is None or device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    elif device.index >= torch.cuda.device_count():
        raise HybridStitchError(f"no such GPU: {device}; this machine has {_devices_here()}")
    here = hardware(device)
    if backend.targets and here.target not in backend.targets:
        raise HybridStitchError(
            f"backend {backend.name} has no kernels for {here}, only for {', '.join(backend.targets)}; "
            "here use --backend tensorrt or --backend torch, or build for another GPU with --compute-capability"
        )


def _devices_here() -> str:
    """The machine's devices, as they are named."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ", ".join(["cpu", *(f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(count))])


@dataclass(frozen=True)
class Hardware:
    """What a plan is tied to. name: "CPU", or the GPU's name; compute_capability: such as "8.9", None on a CPU."""

    name: str
    compute_capability: str | None = None

    @property
    def target(self) -> str:
        """The compute capability as builders name it, such as "SM89"."""
        return f"SM{(self.compute_capability or '').replace('.', '')}"

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})" if self.compute_capability else self.name


def hardware(device: torch.device) -> Hardware:
    """The hardware of a torch device."""
    if device.type != "cuda":
        return Hardware("CPU")
    major, minor = torch.cuda.get_device_capability(device)
    return Hardware(torch.cuda.get_device_name(device), f"{major}.{minor}")
