"""Float32 of PyTorch as float32: on a GPU its convolutions round to TF32, unless they are told not to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_within = 0
_before = (False, False)


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 within, neither in convolutions nor in matrix products; what was set before is set again afterwards.

    torch has one setting for the whole process: it is given back when the last of several threads is done.
    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    global _within, _before
    with _lock:
        if _within == 0:
            _before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if _within == 0:
                torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = _before
