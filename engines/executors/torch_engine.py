"""The reference executor: the exported module itself, run by PyTorch, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.components import describe
from hybridstitch.models.load import load_module

from ..store.manifest import Manifest
from .engine import check_call


class TorchEngine:
    """An exported module as a callable (see `Engine`). Its weights come from the checkpoint."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        device: torch.device | str = "cpu",
        threads: int | None = None,
        module: torch.nn.Module | None = None,
    ) -> None:
        """Load the module that the component was exported from, or take `module`.

        Args:
            threads: of one call on the CPU; by default what torch has for the whole process.

        Raises:
            HybridStitchError: the checkpoint does not hold the component.
        """
        self.manifest = manifest
        self.device, self._threads = torch.device(device), threads
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)
        self._module: Any = module if module is not None else self._load()

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        if self._module is None:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")
        check_call(self.manifest, self.device, inputs, outputs)
        with _threads(self._threads):
            results = self._module(**self._arguments(inputs))
        results = results if isinstance(results, tuple) else (results,)
        computed = dict(zip(self.manifest.outputs, results, strict=True))
        if outputs is None:
            return computed
        for name, tensor in outputs.items():
            tensor.copy_(computed[name])
        return dict(outputs)

    def close(self) -> None:
        self._module = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # torch keeps freed memory for itself; TensorRT takes from the GPU what is left

    def _arguments(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """The module's arguments: frozen_key.0, frozen_key.1, ... go as one list frozen_key."""
        arguments: dict[str, Any] = {}
        for name in self.manifest.inputs:
            stem, _, index = name.partition(".")
            if index:
                arguments.setdefault(stem, []).append(inputs[name])
            else:
                arguments[stem] = inputs[name]
        return arguments

    def _load(self) -> torch.nn.Module:
        checkpoint = Path(self.manifest.checkpoint or "")
        described = describe(self.manifest.component, checkpoint, self.dtype, self.manifest.zero_text_tokens)
        return load_module(described, self.device)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """torch knows one number for the whole process: it is lent for a call and given back."""
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
