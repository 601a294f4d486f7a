"""The CPU executor: ONNX Runtime, reading and writing torch's memory directly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.dtypes import BY_NAME

from ..backends import ONNXRUNTIME_QUIET
from ..store.manifest import Manifest
from .engine import check_call, output_shape


class OnnxRuntimeEngine:
    """An optimized ONNX file as a callable on the CPU (see `Engine`)."""

    def __init__(self, manifest: Manifest, plan: Path, *, threads: int | None = None) -> None:
        """Open a plan.

        Args:
            threads: of one call; by default one for each physical core that this process may use.

        Raises:
            HybridStitchError: ONNX Runtime cannot read the plan.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = ONNXRUNTIME_QUIET
        options.intra_op_num_threads = threads or physical_cores()
        # The next engine of the pair wants the cores as soon as this one is done.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(plan), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class but this
            raise HybridStitchError(f"ONNX Runtime cannot read {plan}: {' '.join(str(error).split())}") from None
        self.manifest = manifest
        self.device = torch.device("cpu")
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)

    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        if self._session is None:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")
        lengths = check_call(self.manifest, self.device, inputs, outputs)
        binding = self._session.io_binding()
        held = [self._bind_input(binding, name, tensor) for name, tensor in inputs.items()]
        results = dict(outputs) if outputs is not None else self._allocate(lengths)
        for name in self.manifest.outputs if outputs is None else outputs:
            self._bind_output(binding, name, results.get(name))
        self._session.run_with_iobinding(binding)
        del held
        for name, value in zip(self.manifest.outputs, binding.get_outputs(), strict=False):
            if name not in results and outputs is None:
                results[name] = torch.from_numpy(value.numpy())
        return results

    def close(self) -> None:
        self._session = None

    def _allocate(self, lengths: Mapping[str, int]) -> dict[str, Tensor]:
        """Memory for the outputs whose shape follows from the inputs' lengths; ONNX Runtime finds it for others."""
        shapes = {name: output_shape(spec, lengths) for name, spec in self.manifest.outputs.items()}
        return {
            name: torch.empty(shape, dtype=getattr(torch, self.manifest.outputs[name].dtype))
            for name, shape in shapes.items()
            if shape is not None
        }

    def _bind_input(self, binding: Any, name: str, tensor: Tensor) -> Tensor:
        """Returns the tensor that must live until the run is over."""
        tensor = tensor.contiguous()
        kind = BY_NAME[self.manifest.inputs[name].dtype].onnx
        binding.bind_input(name, "cpu", 0, kind, list(tensor.shape), tensor.data_ptr())
        return tensor

    def _bind_output(self, binding: Any, name: str, tensor: Tensor | None) -> None:
        if tensor is None:
            binding.bind_output(name, "cpu")
            return
        kind = BY_NAME[self.manifest.outputs[name].dtype].onnx
        binding.bind_output(name, "cpu", 0, kind, list(tensor.shape), tensor.data_ptr())


def physical_cores() -> int:
    """Physical cores that this process may use: two threads of one core share its arithmetic units."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            cores = allowed
            break
    return max(1, min(len(cores), _container_limit()))


def _container_limit() -> int:
    """Cores that a container's CPU quota amounts to."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup, or no limit ("max")
        return os.cpu_count() or 1
