"""The reference executor: the exported module itself, run by PyTorch, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.component import group_numbered
from hybridstitch.models.family import family_of
from hybridstitch.models.load import load_module

from ..exact_float32 import exact_float32
from ..out_of_memory import opening, running
from ..store.manifest import Manifest
from .engine import check_call
from .scratch_arena import ScratchArena


class TorchEngine:
    """An exported module (see `Engine`). Its weights come from the checkpoint. Float32 is never rounded to TF32."""

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
            OutOfMemory: the device's memory does not hold it.
        """
        self.manifest = manifest
        self.device, self.threads = torch.device(device), threads
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)
        with opening(manifest.component, self.device, manifest.weight_bytes):
            self._module: Any = module if module is not None else self._load()

    def session(self, scratch: ScratchArena | None = None) -> TorchSession:
        self.opened()
        return TorchSession(self)

    def opened(self) -> Any:
        """The module."""
        if self._module is None:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")
        return self._module

    def close(self) -> None:
        self._module = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # torch keeps freed memory for itself; TensorRT takes from the GPU what is left

    def _load(self) -> torch.nn.Module:
        checkpoint = Path(self.manifest.checkpoint or "")
        component, zero_tokens = self.manifest.component, self.manifest.zero_text_tokens
        described = family_of(checkpoint).describe(component, checkpoint, self.dtype, zero_tokens)
        return load_module(described, self.device)


class TorchSession:
    """Binds calls of a module (see `Session`)."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> TorchCall:
        check_call(self.engine.manifest, self.engine.device, inputs, outputs)
        return TorchCall(self.engine, inputs, outputs)


class TorchCall:
    """A module, its arguments and where its results go (see `BoundCall`)."""

    def __init__(self, engine: TorchEngine, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None) -> None:
        self.outputs: dict[str, Tensor] = dict(outputs or {})
        self._engine, self._own = engine, outputs is None
        self._arguments = group_numbered({name: inputs[name] for name in engine.manifest.inputs})
        self._allocation = running(engine.manifest.component, engine.device)

    def run(self) -> None:
        with self._allocation:
            self._run()

    @torch.inference_mode()
    def _run(self) -> None:
        module = self._engine.opened()
        with exact_float32(), _threads(self._engine.threads):
            results = module(**self._arguments)
        results = results if isinstance(results, tuple) else (results,)
        computed = dict(zip(self._engine.manifest.outputs, results, strict=True))
        if self._own and not self.outputs:
            self.outputs = computed
        for name, tensor in self.outputs.items():
            if tensor is not computed[name]:
                tensor.copy_(computed[name])


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
