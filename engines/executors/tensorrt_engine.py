"""The GPU executor for TensorRT and TensorRT for RTX: plans on torch's memory and torch's stream.

Each bound call has an execution context of its own, its shapes and addresses set once, so that full and masked calls
alternate without setting anything up anew. Scratch memory is torch's, sized for the shapes at hand and shared by a
session's calls, which never run at once.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError

from ..out_of_memory import opening, running
from ..profiles import best_profile
from ..store.manifest import Manifest
from ..tensorrt_module import make_log, tensorrt_module
from ..unread_outputs import unread_bytes, unread_place
from .engine import check_call
from .scratch_arena import ScratchArena

_ALIGNMENT = 256  # of scratch memory and of the address that stands in for an empty tensor's


class TensorRTEngine:
    """A plan on one GPU (see `Engine`)."""

    def __init__(self, manifest: Manifest, plan: Path, *, device: torch.device) -> None:
        """Deserialise a plan that was checked before (`open_pair` does).

        Raises:
            HybridStitchError: TensorRT does not take the plan.
            OutOfMemory: the GPU's memory does not hold it.
        """
        self.manifest = manifest
        self.device = device
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)
        self.trt = tensorrt_module(manifest.backend)
        self._log = make_log(self.trt)
        self._sessions: weakref.WeakSet[TensorRTSession] = weakref.WeakSet()
        self._runtime: Any
        self._engine: Any
        with opening(manifest.component, device, plan.stat().st_size), torch.cuda.device(device):
            self._runtime, self._engine = self._open(plan)
        self._check_tensors()

    def session(self, scratch: ScratchArena | None = None) -> TensorRTSession:
        with running(self.manifest.component, self.device):
            session = TensorRTSession(self, scratch or ScratchArena(self.device))
        self._sessions.add(session)
        return session

    def opened(self) -> Any:
        """TensorRT's engine."""
        if self._engine is None:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")
        return self._engine

    @property
    def errors_logged(self) -> int:
        """How many errors TensorRT has logged so far: `failure` quotes none of them."""
        return self._log.count

    def failure(self, what: str, since: int) -> HybridStitchError:
        """An error of this engine, with TensorRT's own reason.

        Args:
            since: `errors_logged` when the failing call began.
        """
        return HybridStitchError(f"the {self.manifest.component} engine {what}: {self._log.last_error(since)}")

    def close(self) -> None:
        """Give back contexts, plan and scratch memory, once the GPU has finished with them."""
        if self._engine is None:
            return
        torch.cuda.synchronize(self.device)
        with torch.cuda.device(self.device):
            for session in self._sessions:
                session.close()
            self._engine = self._runtime = None

    def _open(self, plan: Path) -> tuple[Any, Any]:
        """The runtime and the engine in a plan file, which is mapped, not read, into host memory."""
        try:
            runtime = self.trt.Runtime(self._log)
        except TypeError:  # "factory function returned nullptr": the reason is in the log
            raise HybridStitchError(f"{self.manifest.backend} cannot start: {self._log.last_error()}") from None
        if self.manifest.options.get("version_compatible"):
            runtime.engine_host_code_allowed = True  # such a plan carries the runtime that it was built with
        with plan.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            opened = runtime.deserialize_cuda_engine(content)
        if opened is None:
            raise HybridStitchError(f"{self.manifest.backend} cannot read {plan}: {self._log.first_error()}")
        if self.manifest.options.get("weight_streaming"):
            opened.weight_streaming_budget_v2 = opened.get_weight_streaming_automatic_budget()
        return runtime, opened

    def _check_tensors(self) -> None:
        """The plan has the tensors that its manifest says, profiles included."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        expected = {**self.manifest.inputs, **self.manifest.outputs}
        if set(names) != set(expected) or self._engine.num_optimization_profiles != len(self.manifest.profiles):
            raise HybridStitchError(
                f"the plan of {self.manifest.component} is not the one that its manifest describes; build it again"
            )


class TensorRTSession:
    """Binds calls of a plan (see `Session`), on one stream at a time: they share scratch memory, and the memory of
    outputs that nobody wants."""

    def __init__(self, engine: TensorRTEngine, arena: ScratchArena) -> None:
        engine.opened()
        self.engine = engine
        self._calls: weakref.WeakSet[TensorRTCall] = weakref.WeakSet()
        self._spare: dict[str, Tensor] = {}
        self._arena = arena
        arena.join(self)
        self._nothing = torch.empty(_ALIGNMENT, dtype=torch.uint8, device=engine.device)

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> TensorRTCall:
        self.engine.opened()
        lengths = check_call(self.engine.manifest, self.engine.device, inputs, outputs)
        with running(self.engine.manifest.component, self.engine.device), torch.cuda.device(self.engine.device):
            return self._bind(lengths, inputs, outputs)

    def close(self) -> None:
        """Give back its contexts and memory. The engine does it, once the GPU has finished."""
        for call in self._calls:
            call.close()
        self._spare.clear()
        self._arena.leave(self)
        self._nothing = torch.empty(0)

    @property
    def _scratch(self) -> Tensor:
        return self._arena.memory

    def place(self) -> None:
        for call in self._calls:  # also those that were bound before, to memory that has grown since
            call.place(self._arena.memory, self._spare, self._nothing)

    def _bind(
        self, lengths: Mapping[str, int], inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None
    ) -> TensorRTCall:
        """The session has more memory afterwards, or, where not all of it could be had, what it had before."""
        manifest = self.engine.manifest
        execution = self._context(lengths)
        self._set_shapes(execution, inputs)
        output_shapes = {name: tuple(execution.get_tensor_shape(name)) for name in manifest.outputs}
        written = self._written(output_shapes, outputs)
        call = TensorRTCall(self.engine, execution, inputs, written)
        scratch, spare = self._arena.grown(call.scratch_bytes + _ALIGNMENT), self._grown_spare(output_shapes, written)
        self._spare = spare
        self._calls.add(call)
        self._arena.take(scratch)
        self.place()
        return call

    def _context(self, lengths: Mapping[str, int]) -> Any:
        """A new execution context, set to the profile of these lengths."""
        engine, profiles = self.engine, self.engine.manifest.profiles
        profile = best_profile(profiles, lengths)
        assert profile is not None  # check_call found one
        since = engine.errors_logged
        execution = engine.opened().create_execution_context(engine.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        stream = torch.cuda.current_stream().cuda_stream
        if execution is None or not execution.set_optimization_profile_async(profile, stream):
            raise engine.failure(f"cannot use its profile {profiles[profile].name}", since)
        return execution

    def _set_shapes(self, execution: Any, inputs: Mapping[str, Tensor]) -> None:
        since = self.engine.errors_logged
        for name, tensor in inputs.items():
            if not execution.set_input_shape(name, tuple(tensor.shape)):
                raise self.engine.failure(f"refuses {name} of shape {list(tensor.shape)}", since)
        if unclear := execution.infer_shapes():
            raise HybridStitchError(
                f"the {self.engine.manifest.component} engine cannot tell the shape of {unclear[0]}"
            )

    def _written(
        self, output_shapes: Mapping[str, tuple[int, ...]], outputs: Mapping[str, Tensor] | None
    ) -> Mapping[str, Tensor]:
        """The tensors to write the wanted outputs to."""
        if outputs is None:
            return {name: self._empty(shape, self._dtype_of(name)) for name, shape in output_shapes.items()}
        for name, tensor in outputs.items():
            if tuple(tensor.shape) != output_shapes[name]:
                raise HybridStitchError(
                    f"{self.engine.manifest.component} engine: output {name} has shape {list(tensor.shape)}, "
                    f"not {list(output_shapes[name])}"
                )
        return dict(outputs)

    def _grown_spare(
        self, output_shapes: Mapping[str, tuple[int, ...]], written: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Memory for the outputs that nobody wants, which a plan writes all the same."""
        sizes = {
            name: torch.Size(shape).numel() * self._dtype_of(name).itemsize
            for name, shape in output_shapes.items()
            if name not in written
        }
        grown = {
            place: self._empty((size,), torch.uint8)
            for place, size in unread_bytes(sizes).items()
            if place not in self._spare or self._spare[place].numel() < size
        }
        return {**self._spare, **grown}

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.engine.device)

    def _dtype_of(self, name: str) -> torch.dtype:
        return getattr(torch, self.engine.manifest.outputs[name].dtype)


class TensorRTCall:
    """An execution context and the tensors that it points to (see `BoundCall`)."""

    def __init__(
        self, engine: TensorRTEngine, execution: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        self.outputs = outputs
        self.scratch_bytes: int = execution.update_device_memory_size_for_shapes()
        self._owner, self._inputs = engine, dict(inputs)
        self._execution: Any = execution
        self._memory: tuple[Tensor, ...] = ()
        self._addresses: dict[str, int] = {}
        self._allocation = running(engine.manifest.component, engine.device)

    def run(self) -> None:
        self._owner.opened()
        since = self._owner.errors_logged
        with self._allocation, torch.cuda.device(self._owner.device):
            if not self._execution.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise self._owner.failure("failed", since)

    def place(self, scratch: Tensor, spare: Mapping[str, Tensor], nothing: Tensor) -> None:
        """Point the context to its memory; what is there already is not set again.

        Args:
            scratch: of at least `scratch_bytes` and an alignment. spare: by place, for the outputs that nobody wants.
            nothing: stands in for an empty tensor, which has no address.
        """
        since = self._owner.errors_logged
        self._memory = scratch, nothing, *spare.values()
        address = -(-scratch.data_ptr() // _ALIGNMENT) * _ALIGNMENT
        if self._addresses.get("") != address:
            self._execution.set_device_memory(address, self.scratch_bytes)
            self._addresses[""] = address
        unwanted = self._owner.manifest.outputs.keys() - self.outputs.keys()
        tensors = {**self._inputs, **self.outputs, **{name: spare[unread_place(name)] for name in unwanted}}
        for name, tensor in tensors.items():
            address = tensor.data_ptr() or nothing.data_ptr()
            if self._addresses.get(name) == address:
                continue
            if not self._execution.set_tensor_address(name, address):
                raise self._owner.failure(f"does not take the memory of {name}", since)
            self._addresses[name] = address

    def close(self) -> None:
        self._execution, self._memory = None, ()
