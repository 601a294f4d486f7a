"""A stand-in for the tensorrt module that runs the small hand-made model on the CPU.

It keeps the rules of the real one and fails where they are broken: a profile before shapes, shapes before scratch
memory, every address before a run, scratch memory of the size and alignment that was asked for. It writes every output,
and reads what a block's attentions wrote, two to a block, before the next block writes: outputs that share memory show.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Buffer

from hybridstitch.engines.profiles import resolve
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.models.tensors import TensorSpec

from .handmade import compute, weights

SCRATCH_BYTES_PER_TOKEN = 100


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3

    def __init__(self) -> None:
        pass


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    USER_MANAGED = 2


class Runtime:
    def __init__(self, log: Any) -> None:
        self.log = log

    def deserialize_cuda_engine(self, content: Buffer) -> Any:
        if bytes(memoryview(content)) != b"plan":
            self.log.log(ILogger.Severity.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed.")
            return None
        return Plan(self.log)


class Plan:
    manifest: Manifest  # set by the test: what a real plan carries itself

    def __init__(self, log: Any) -> None:
        self.log = log
        self.contexts: list[Context] = []
        names = [*self.manifest.inputs, *self.manifest.outputs]
        self.num_io_tensors, self.get_tensor_name = len(names), names.__getitem__
        self.num_optimization_profiles = len(self.manifest.profiles)

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> Context:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        self.contexts.append(Context(self))
        return self.contexts[-1]


class Context:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.profile, self.runs = plan, -1, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.address_changes = 0
        self.shape_changes = 0
        self.needed = self.given = 0

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert self.profile in (-1, index), "one context keeps its profile"
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile >= 0
        low, _, high = self.plan.manifest.profiles[self.profile].shapes(self.plan.manifest.inputs)[name]
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return False
        self.shapes[name], self.needed, self.given = shape, 0, 0
        self.shape_changes += 1
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self.plan.manifest.inputs if name not in self.shapes]

    def update_device_memory_size_for_shapes(self) -> int:
        assert not self.infer_shapes()
        self.needed = math.prod(self.shapes["tokens"][:2]) * SCRATCH_BYTES_PER_TOKEN
        return self.needed

    def set_device_memory(self, address: int, size: int) -> None:
        assert address % 256 == 0
        assert size >= self.needed > 0
        self.given = size

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        lengths = {"B": self.shapes["tokens"][0], "M": self.shapes["tokens"][1]}
        return resolve(self.plan.manifest.outputs[name].dims, lengths)

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address
        self.addresses[name] = address
        self.address_changes += 1
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert self.given >= self.needed > 0
        inputs = {name: self._read(name, self.shapes[name]) for name in self.plan.manifest.inputs}
        if inputs["tokens"].isnan().any():
            self.plan.log.log(ILogger.Severity.ERROR, "CUDA error 700\n  at somewhere")
            return False
        outputs = compute(inputs, weights())
        for block in itertools.groupby(self.plan.manifest.outputs, key=_block_of):
            written = {name: self._computed(outputs, name) for name in block[1]}
            for name, tensor in written.items():
                ctypes.memmove(self.addresses[name], tensor.data_ptr(), tensor.nbytes)
            for name, tensor in written.items():
                assert torch.equal(self._read(name, tuple(tensor.shape)), tensor), f"{name} was written over"
        self.runs += 1
        return True

    @staticmethod
    def _computed(outputs: dict[str, Tensor], name: str) -> Tensor:
        """An output; the one attention that is computed stands in for all, each with a number of its own."""
        stem, _, index = name.partition(".")
        return (outputs[f"{stem}.0"] + int(index) if index else outputs[name]).contiguous()

    def _read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        if not count:
            return torch.empty(shape)
        content = (ctypes.c_float * count).from_address(self.addresses[name])
        return torch.frombuffer(content, dtype=torch.float32).reshape(shape).clone()


def with_attentions(manifest: Manifest, count: int) -> Manifest:
    """The large model with more attentions than the one that the hand-made graph has."""
    assert manifest.geometry is not None

    def more(tensors: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        repeated = [(name.removesuffix("0"), spec) for name, spec in tensors.items() if name.endswith(".0")]
        others = {name: spec for name, spec in tensors.items() if not name.endswith(".0")}
        return others | {f"{stem}{index}": spec for index in range(count) for stem, spec in repeated}

    geometry = replace(manifest.geometry, attentions=count)
    return replace(manifest, inputs=more(manifest.inputs), outputs=more(manifest.outputs), geometry=geometry)


def _block_of(output: str) -> int:
    """The number of the block that writes an output."""
    index = output.partition(".")[2]
    return int(index) // 2 if index else -1
