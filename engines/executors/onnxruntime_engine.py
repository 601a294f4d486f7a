"""The CPU executor: ONNX Runtime, reading and writing torch's memory directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.dtypes import BY_NAME
from hybridstitch.models.tensors import TensorSpec

from ..backends import ONNXRUNTIME_QUIET
from ..cores import physical_cores
from ..out_of_memory import opening, running
from ..store.manifest import Manifest
from .engine import check_call, output_shape
from .scratch_arena import ScratchArena


class OnnxRuntimeEngine:
    """An optimized ONNX file on the CPU (see `Engine`)."""

    def __init__(self, manifest: Manifest, plan: Path, *, threads: int | None = None) -> None:
        """Open a plan.

        Args:
            threads: of one call; by default one for each physical core that this process may use.

        Raises:
            HybridStitchError: ONNX Runtime cannot read the plan.
            OutOfMemory: memory does not hold it.
        """
        self.manifest = manifest
        self.device = torch.device("cpu")
        size = sum(file.bytes for role, file in manifest.files.items() if role != "position")
        with opening(manifest.component, self.device, size):
            self._session: Any = _open(plan, threads or physical_cores())
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)

    def session(self, scratch: ScratchArena | None = None) -> OnnxRuntimeSession:
        self.opened()
        return OnnxRuntimeSession(self)

    def opened(self) -> Any:
        """ONNX Runtime's session, which any number of threads may run at once."""
        if self._session is None:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")
        return self._session

    def close(self) -> None:
        self._session = None


class OnnxRuntimeSession:
    """Binds calls of an engine (see `Session`)."""

    def __init__(self, engine: OnnxRuntimeEngine) -> None:
        self.engine = engine

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> OnnxRuntimeCall:
        with running(self.engine.manifest.component, self.engine.device):
            return self._bind(inputs, outputs)

    def _bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None) -> OnnxRuntimeCall:
        engine = self.engine
        binding = engine.opened().io_binding()
        lengths = check_call(engine.manifest, engine.device, inputs, outputs)
        written = dict(outputs) if outputs is not None else _allocate(engine.manifest, lengths)
        unsized = [] if outputs is not None else [name for name in engine.manifest.outputs if name not in written]
        for name, tensor in inputs.items():
            kind = _kind(engine.manifest.inputs[name])
            binding.bind_input(name, "cpu", 0, kind, list(tensor.shape), tensor.data_ptr())
        for name, tensor in written.items():
            kind = _kind(engine.manifest.outputs[name])
            binding.bind_output(name, "cpu", 0, kind, list(tensor.shape), tensor.data_ptr())
        for name in unsized:
            binding.bind_output(name, "cpu")
        return OnnxRuntimeCall(engine, binding, dict(inputs), written, unsized)


class OnnxRuntimeCall:
    """An IOBinding and the tensors that it points into (see `BoundCall`)."""

    def __init__(
        self,
        engine: OnnxRuntimeEngine,
        binding: Any,
        inputs: Mapping[str, Tensor],
        outputs: dict[str, Tensor],
        unsized: Sequence[str],
    ) -> None:
        self.outputs = outputs
        self._engine, self._binding, self._inputs, self._unsized = engine, binding, inputs, unsized
        self._allocation = running(engine.manifest.component, engine.device)

    def run(self) -> None:
        with self._allocation:
            self._run()

    def _run(self) -> None:
        self._engine.opened().run_with_iobinding(self._binding)
        if self._unsized:  # bound last, in memory that ONNX Runtime found for them
            values = self._binding.get_outputs()[-len(self._unsized) :]
            self.outputs |= {
                name: torch.from_numpy(value.numpy()) for name, value in zip(self._unsized, values, strict=True)
            }


def _open(plan: Path, threads: int) -> Any:
    """ONNX Runtime's session of a plan.

    Raises:
        HybridStitchError: it cannot read the plan.
        MemoryError: memory does not hold it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONNXRUNTIME_QUIET
    options.intra_op_num_threads = threads
    # The next engine of the pair wants the cores as soon as this one is done.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(plan), options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise
    except Exception as error:  # its exceptions share no base class but this
        raise HybridStitchError(f"ONNX Runtime cannot read {plan}: {' '.join(str(error).split())}") from None


def _allocate(manifest: Manifest, lengths: Mapping[str, int]) -> dict[str, Tensor]:
    """Memory for the outputs whose shape follows from the inputs' lengths; ONNX Runtime finds it for others."""
    shapes = {name: output_shape(spec, lengths) for name, spec in manifest.outputs.items()}
    return {
        name: torch.empty(shape, dtype=getattr(torch, manifest.outputs[name].dtype))
        for name, shape in shapes.items()
        if shape is not None
    }


def _kind(spec: TensorSpec) -> int:
    return BY_NAME[spec.dtype].onnx
