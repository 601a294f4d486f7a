"""The reference executor: the exported module itself, run by PyTorch, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError

from .engine import check_call
from .manifest import Manifest

if TYPE_CHECKING:
    from ..export.component import Component


class TorchEngine:
    """An exported module as a callable (see `Engine`). Its weights come from the checkpoint."""

    def __init__(
        self, manifest: Manifest, *, device: torch.device | str = "cpu", module: torch.nn.Module | None = None
    ) -> None:
        """Load the module that the component was exported from, or take `module`.

        Raises:
            HybridStitchError: the checkpoint is gone, or it does not hold the component.
        """
        self.manifest = manifest
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)
        self._module: Any = module if module is not None else self._load()

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        if self._module is None:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")
        check_call(self.manifest, self.device, inputs, outputs)
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
        from ..export.external import find_weights

        checkpoint = Path(self.manifest.checkpoint or "")
        if not checkpoint.is_dir():
            raise HybridStitchError(
                f"the checkpoint of the {self.manifest.component} engine, {checkpoint}, is no folder any more"
            )
        described = describe(self.manifest.component, checkpoint, self.dtype, self.manifest.zero_text_tokens)
        stored = find_weights(described)
        weights = {
            name: stored[name].read().to(device=self.device, dtype=self.dtype) for name in described.module.state_dict()
        }
        described.module.load_state_dict(weights, assign=True)
        return described.module.eval().requires_grad_(False)


def describe(component: str, checkpoint: Path, dtype: torch.dtype, zero_text_tokens: int) -> Component:
    """What export made the component of: its module, without weights.

    Raises:
        HybridStitchError: the checkpoint does not hold it.
    """
    from ..export import components

    text = components.TextShape(0, 0, zero_text_tokens)  # the lengths are the graph's alone; a module takes any
    if component in ("large", "small"):
        return components.transformer(checkpoint, component, text, dtype, keeps_keys=component == "large")
    if component == "vae_decoder":
        return components.vae_decoder(checkpoint, dtype)
    if component == "text_encoder_3":
        return components.t5_text_encoder(checkpoint, component, text, dtype)
    return components.clip_text_encoder(checkpoint, component, text, dtype)
