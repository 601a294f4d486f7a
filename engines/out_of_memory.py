"""One error for memory that does not suffice, whichever library could not allocate it."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from types import TracebackType

import torch

from hybridstitch.method.errors import OutOfMemory

OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemory|bad_alloc|ALLOC_FAILED|insufficient memory|"
    r"(?:can't|cannot|could not|failed to|unable to) allocate",
    re.IGNORECASE,
)
"""How PyTorch, ONNX Runtime, TensorRT, CUDA and the operating system say it."""

_SIZE = re.compile(
    r"(?:allocate|requested size was|buffer of size|requested)\s+(\d+(?:\.\d+)?)\s*(?:([KMGT])iB|bytes)?", re.IGNORECASE
)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_HOST = re.compile(r"DefaultCPUAllocator|bad_alloc", re.IGNORECASE)


class Allocation:
    """A context in which whatever runs out of memory raises `OutOfMemory`, with this context's words.

    >>> with Allocation("run the large engine", device, "lower the batch or the size"):
    ...     return self._run()

    The error holds nothing of the failed attempt: no chained exception, no traceback below the `with` statement. The
    memory is free as soon as the error is caught, provided that the function with the `with` statement keeps what it
    allocates in no variable or attribute of its own. Contexts can be nested: the outermost has the last word.
    """

    def __init__(self, purpose: str, device: torch.device, advice: str, *, needed: int | None = None) -> None:
        """Args:
        purpose: what the memory is for, after "not enough memory to". advice: what helps.
        needed: bytes that the whole takes, where they are known; by default what the failed allocation asked for.
        """
        self.purpose, self.device, self.advice, self.needed = purpose, device, advice, needed

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = self._told(error) if isinstance(error, Exception) and is_out_of_memory(error) else None
        del error, trace  # what is raised holds this frame
        if told is None:
            return
        try:
            raise told
        finally:
            told.__context__ = None
            del told

    def _told(self, error: Exception) -> OutOfMemory:
        if isinstance(error, OutOfMemory):
            on_host = "GPU memory" not in str(error)
            needed, free = self.needed or error.needed, error.free
        else:
            on_host = self.device.type != "cuda" or isinstance(error, MemoryError | OSError)
            on_host = on_host or bool(_HOST.search(str(error)))
            needed = self.needed or _asked_for(str(error))
            free = free_host_memory() if on_host else free_gpu_memory(self.device)
        amounts = [
            f"{_shown(amount)} {what}" for amount, what in ((needed, "needed"), (free, "free")) if amount is not None
        ]
        kind, numbers = "memory" if on_host else "GPU memory", f": {', '.join(amounts)}" if amounts else ""
        return OutOfMemory(f"not enough {kind} to {self.purpose}{numbers}; {self.advice}", needed=needed, free=free)


def opening(component: str, device: torch.device, needed: int | None = None) -> Allocation:
    """For loading an engine of `needed` bytes."""
    return Allocation(
        f"load the {component} engine", device, "close what else uses it, or take a machine with more", needed=needed
    )


def running(component: str, device: torch.device) -> Allocation:
    """For binding and running an engine's calls."""
    return Allocation(f"run the {component} engine", device, "lower the batch or the size")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception of any library says that memory does not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | OutOfMemory):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return OUT_OF_MEMORY.search(str(error)) is not None


def free_gpu_memory(device: torch.device) -> int | None:
    """Free bytes of a GPU; None where it does not answer any more."""
    try:
        return torch.cuda.mem_get_info(device)[0]
    except RuntimeError:
        return None


def free_host_memory() -> int | None:
    """Free bytes of the machine's memory; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _asked_for(words: str) -> int | None:
    """The bytes that an allocator says it was asked for."""
    match = _SIZE.search(words)
    return int(float(match[1]) * 2 ** _UNITS[(match[2] or "").upper()]) if match else None


def _shown(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB" if amount >= 2**27 else f"{amount / 2**20:.2f} MiB"
