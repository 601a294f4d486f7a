"""Which errors mean that the device is lost to this process."""

from __future__ import annotations

from collections.abc import Iterator

import torch

STICKY = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "the launch timed out",
    "illegal instruction",
    "misaligned address",
    "hardware stack error",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "invalid access of peer gpu memory over nvlink or a hardware error",
    "no cuda-capable device",
    "cuda-capable device(s) is/are busy or unavailable",
    "context is destroyed",
    "driver shutting down",
)
"""How cudaGetErrorString describes the errors after which every call of the process fails
(https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, cudaError)."""
STICKY_NAMES = (
    "errorillegaladdress",
    "errorassert",
    "errorlaunchfail",
    "errorlaunchtimeout",
    "errorillegalinstruction",
    "errormisalignedaddress",
    "errorhardwarestackerror",
    "errorinvalidpc",
    "errorinvalidaddressspace",
    "erroreccuncorrectable",
    "errornvlinkuncorrectable",
    "errornodevice",
    "errordevicesunavailable",
    "errorcontextisdestroyed",
)
"""Their names, as cudaErrorIllegalAddress and CUDA_ERROR_ILLEGAL_ADDRESS have them in common."""


def device_loss(error: BaseException, device: torch.device) -> str | None:
    """What a device was lost by, in one line; None: it is there, and other work may go well.

    The words of an error tell it. Where they do not, a GPU is asked: a CUDA error that stays is raised again by the
    next wait for the device. An error for want of memory does not stay.
    """
    if (words := sticky_words(error)) is not None:
        return f"{device} is lost: {words}"
    if device.type != "cuda":
        return None
    try:
        torch.cuda.synchronize(device)
    except Exception as raised:
        return None if _for_want_of_memory(raised) else f"{device} is lost: {one_line(raised)}"
    return None


def sticky_words(error: BaseException) -> str | None:
    """The words by which an error, or one that led to it, names a CUDA error that stays; None: none does."""
    return next((one_line(each) for each in _chain(error) if _is_sticky(each)), None)


def one_line(error: BaseException) -> str:
    """An error's words in one line; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _is_sticky(error: BaseException) -> bool:
    text = str(error).lower()
    if "cuda" not in text or _for_want_of_memory(error):
        return False
    name = text.replace("_", "")
    return any(words in text for words in STICKY) or any(words in name for words in STICKY_NAMES)


def _for_want_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised for or after, each once."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and not any(each is earlier for earlier in seen):
            seen.append(each)
            yield each
            left += [each.__context__, each.__cause__]
