"""The GPU executor for TensorRT and TensorRT for RTX: plans on torch's memory and torch's stream.

One execution context for each profile that is used, so that full and masked runs alternate without setting anything up
anew. Scratch memory is torch's, sized for the shapes at hand and shared by an engine's contexts, which never run at
once.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError

from ..profiles import best_profile
from ..spare import spare_bytes, spare_place
from ..store.manifest import Manifest
from ..tensorrt_module import make_log, tensorrt_module
from .engine import check_call

_ALIGNMENT = 256  # of scratch memory and of the address that stands in for an empty tensor's


class TensorRTEngine:
    """A plan as a callable on one GPU (see `Engine`), on one stream at a time: its runs share their scratch memory."""

    def __init__(self, manifest: Manifest, plan: Path, *, device: torch.device) -> None:
        """Deserialise a plan that was checked before (`open_pair` does).

        Raises:
            HybridStitchError: TensorRT does not take the plan, or the GPU's memory does not hold it.
        """
        self.manifest = manifest
        self.device = device
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)
        self._trt = tensorrt_module(manifest.backend)
        self._log = make_log(self._trt)
        self._contexts: dict[int, Context] = {}
        self._spare: dict[str, Tensor] = {}
        self._runtime: Any
        self._engine: Any
        with torch.cuda.device(device):
            self._runtime, self._engine = self._open(plan)
        self._check_tensors()
        self._scratch = torch.empty(0, dtype=torch.uint8, device=device)
        self._nothing = torch.empty(_ALIGNMENT, dtype=torch.uint8, device=device)

    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        if self._engine is None:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")
        lengths = check_call(self.manifest, self.device, inputs, outputs)
        index = best_profile(self.manifest.profiles, lengths)
        assert index is not None  # check_call found one
        inputs = {name: tensor.contiguous() for name, tensor in inputs.items()}
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream().cuda_stream
            context = self._context(index, stream)
            if context.lengths != lengths:
                self._set_shapes(context, inputs, lengths)
            self._lend_scratch(context)
            results = self._results(context, outputs)
            tensors = {**inputs, **self._unwanted(context, results), **results}
            if refused := context.bind(tensors, self._nothing.data_ptr()):
                raise HybridStitchError(
                    f"the {self.manifest.component} engine does not take the memory of {refused}: "
                    f"{self._log.last_error()}"
                )
            if not context.execution.execute_async_v3(stream):
                raise HybridStitchError(f"the {self.manifest.component} engine failed: {self._log.last_error()}")
        return {name: results[name] for name in (self.manifest.outputs if outputs is None else outputs)}

    def close(self) -> None:
        """Give back contexts, plan and scratch memory, once the GPU has finished with them."""
        if self._engine is None:
            return
        torch.cuda.synchronize(self.device)
        with torch.cuda.device(self.device):
            self._contexts.clear()
            self._engine = self._runtime = None
        self._spare.clear()
        self._scratch = self._nothing = torch.empty(0)

    def _open(self, plan: Path) -> tuple[Any, Any]:
        """The runtime and the engine in a plan file, which is mapped, not read, into host memory."""
        try:
            runtime = self._trt.Runtime(self._log)
        except TypeError:  # "factory function returned nullptr": the reason is in the log
            raise HybridStitchError(f"{self.manifest.backend} cannot start: {self._log.last_error()}") from None
        if self.manifest.options.get("version_compatible"):
            runtime.engine_host_code_allowed = True  # such a plan carries the runtime that it was built with
        with plan.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise HybridStitchError(self._open_trouble(plan))
        if self.manifest.options.get("weight_streaming"):
            engine.weight_streaming_budget_v2 = engine.get_weight_streaming_automatic_budget()
        return runtime, engine

    def _context(self, index: int, stream: int) -> Context:
        """The context of a profile, made on first use."""
        if index not in self._contexts:
            execution = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if execution is None or not execution.set_optimization_profile_async(index, stream):
                raise HybridStitchError(
                    f"the {self.manifest.component} engine cannot use its profile "
                    f"{self.manifest.profiles[index].name}: {self._log.last_error()}"
                )
            self._contexts[index] = Context(execution)
        return self._contexts[index]

    def _set_shapes(self, context: Context, inputs: Mapping[str, Tensor], lengths: dict[str, int]) -> None:
        context.lengths = None  # until all of this has succeeded
        for name, tensor in inputs.items():
            if not context.execution.set_input_shape(name, tuple(tensor.shape)):
                raise HybridStitchError(
                    f"the {self.manifest.component} engine refuses {name} of shape {list(tensor.shape)}: "
                    f"{self._log.last_error()}"
                )
        if unclear := context.execution.infer_shapes():
            raise HybridStitchError(f"the {self.manifest.component} engine cannot tell the shape of {unclear[0]}")
        context.scratch_bytes = context.execution.update_device_memory_size_for_shapes()
        context.scratch_address = None
        context.shapes = {name: tuple(context.execution.get_tensor_shape(name)) for name in self.manifest.outputs}
        context.lengths = lengths

    def _lend_scratch(self, context: Context) -> None:
        """Memory for intermediate results; it grows and never shrinks, so a shape that ran once runs again."""
        if self._scratch.numel() < context.scratch_bytes + _ALIGNMENT:
            self._scratch = self._empty((context.scratch_bytes + _ALIGNMENT,), torch.uint8)
        address = -(-self._scratch.data_ptr() // _ALIGNMENT) * _ALIGNMENT
        if address != context.scratch_address:
            context.execution.set_device_memory(address, context.scratch_bytes)
            context.scratch_address = address

    def _results(self, context: Context, outputs: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """The tensors to write the wanted outputs to."""
        if outputs is None:
            return {name: self._empty(context.shapes[name], self._dtype_of(name)) for name in self.manifest.outputs}
        for name, tensor in outputs.items():
            if tuple(tensor.shape) != context.shapes[name]:
                raise HybridStitchError(
                    f"{self.manifest.component} engine: output {name} has shape {list(tensor.shape)}, "
                    f"not {list(context.shapes[name])}"
                )
        return dict(outputs)

    def _unwanted(self, context: Context, results: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Memory for the outputs that nobody wants, which a plan writes all the same. All contexts share it."""
        sizes = {
            name: torch.Size(shape).numel() * self._dtype_of(name).itemsize
            for name, shape in context.shapes.items()
            if name not in results
        }
        for place, size in spare_bytes(sizes).items():
            if place not in self._spare or self._spare[place].numel() < size:
                self._spare[place] = self._empty((size,), torch.uint8)
        return {name: self._spare[spare_place(name)] for name in sizes}

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        try:
            return torch.empty(shape, dtype=dtype, device=self.device)
        except torch.cuda.OutOfMemoryError:
            needed = torch.Size(shape).numel() * dtype.itemsize / 2**30
            free = torch.cuda.mem_get_info(self.device)[0] / 2**30
            raise HybridStitchError(
                f"not enough GPU memory for the {self.manifest.component} engine: {needed:.2f} GiB more needed, "
                f"{free:.2f} GiB free; lower the batch or the size"
            ) from None

    def _dtype_of(self, name: str) -> torch.dtype:
        return getattr(torch, self.manifest.outputs[name].dtype)

    def _check_tensors(self) -> None:
        """The plan has the tensors that its manifest says, profiles included."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        expected = {**self.manifest.inputs, **self.manifest.outputs}
        if set(names) != set(expected) or self._engine.num_optimization_profiles != len(self.manifest.profiles):
            raise HybridStitchError(
                f"the plan of {self.manifest.component} is not the one that its manifest describes; build it again"
            )

    def _open_trouble(self, plan: Path) -> str:
        reason = self._log.first_error()
        if "memory" in reason.lower():
            free = torch.cuda.mem_get_info(self.device)[0] / 2**30
            size = plan.stat().st_size / 2**30
            return (
                f"not enough GPU memory to load the {self.manifest.component} engine: {size:.1f} GiB needed, "
                f"{free:.1f} GiB free ({reason})"
            )
        return f"{self.manifest.backend} cannot read {plan}: {reason}"


class Context:
    """An execution context and what was last set on it."""

    def __init__(self, execution: Any) -> None:
        self.execution = execution
        self.lengths: dict[str, int] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.scratch_bytes = 0
        self.scratch_address: int | None = None
        self._addresses: dict[str, int] = {}

    def bind(self, tensors: Mapping[str, Tensor], nothing: int) -> str | None:
        """Set the addresses that changed; an empty tensor has none and gets `nothing`.

        Returns:
            The first tensor that TensorRT does not take; None: it took them all.
        """
        for name, tensor in tensors.items():
            address = tensor.data_ptr() or nothing
            if self._addresses.get(name) != address:
                if not self.execution.set_tensor_address(name, address):
                    return name
                self._addresses[name] = address
        return None
