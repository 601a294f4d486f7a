"""Memory that does not suffice: one error from every executor, and nothing left of the attempt."""

from __future__ import annotations

import errno
import weakref
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hybridstitch.engines.executors import tensorrt_engine, torch_engine
from hybridstitch.engines.executors.engine import Engine, run_once
from hybridstitch.engines.executors.onnxruntime_engine import OnnxRuntimeEngine
from hybridstitch.engines.executors.split_engine import SplitEngine
from hybridstitch.engines.executors.tensorrt_engine import TensorRTEngine
from hybridstitch.engines.executors.torch_engine import TorchEngine
from hybridstitch.engines.out_of_memory import Allocation
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.errors import HybridStitchError, OutOfMemory

from . import fake_tensorrt
from .handmade import compute, open_engine, random_inputs, weights

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
TENSORRT_SAYS = "[executionContext.cpp] Error Code 2: OutOfMemory (Requested size was 2097152 bytes.)"


class Attention(torch.nn.Module):
    """The hand-made model as a module."""

    def forward(self, frozen_key, frozen_value, **inputs):
        inputs |= {"frozen_key.0": frozen_key[0], "frozen_value.0": frozen_value[0]}
        found = compute(inputs, weights())
        return tuple(torch.empty(tensor.shape).copy_(tensor) for tensor in found.values())


@pytest.fixture
def stand_in(built, tmp_path, monkeypatch):
    """A plan and its manifest, for the stand-in of TensorRT."""
    manifest = Store(built).manifest("large")
    (tmp_path / "plan").write_bytes(b"plan")
    monkeypatch.setattr(fake_tensorrt.Plan, "manifest", manifest, raising=False)
    monkeypatch.setattr(tensorrt_engine, "tensorrt_module", lambda backend: fake_tensorrt)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return manifest, tmp_path / "plan"


@pytest.fixture
def open_one(built, stand_in):
    manifest, plan = stand_in

    def open_by_name(name: str) -> Engine:
        if name == "onnxruntime":
            return open_engine(built, "large", backend="onnxruntime", threads=1)
        if name == "torch":
            return TorchEngine(manifest, module=Attention())
        if name == "tensorrt":
            return TensorRTEngine(manifest, plan, device=CPU)
        return SplitEngine([manifest], lambda each: TensorRTEngine(each, plan, device=CPU), device=CPU)

    return open_by_name


class Allocator:
    """torch.empty, which gives a number of tensors and then says what PyTorch says on a CPU; `alive`: those in use."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.asked, self._given, self._empty = 10**9, 0, [], torch.empty
        monkeypatch.setattr(torch, "empty", self)

    def __call__(self, shape, *more: int, **options) -> torch.Tensor:
        if shape == 0:
            return self._empty(0, **options)
        self.asked += 1
        if not self.left:
            return self._empty(2**50, dtype=torch.uint8)
        self.left -= 1
        tensor = self._empty(shape, *more, **options)
        self._given.append(weakref.ref(tensor))
        return tensor

    @property
    def alive(self) -> int:
        return sum(given() is not None for given in self._given)


@pytest.fixture
def allocator(monkeypatch):
    return Allocator(monkeypatch)


@pytest.mark.parametrize("name", ["onnxruntime", "torch", "tensorrt", "split"])
def test_an_allocation_that_fails_anywhere_in_a_call_is_one_error_and_leaves_no_memory_behind(
    open_one, allocator, name
):
    run_once(open_one(name).session(), random_inputs(2, 4, 12))
    counted, session = allocator.asked, open_one(name).session()
    before, errors, left_over = allocator.alive, [], []
    for given in range(counted):
        allocator.left = given
        try:
            run_once(session, random_inputs(2, 4, 12))
        except OutOfMemory as error:
            errors.append(error)  # with its traceback: what it holds stays alive
            left_over.append(allocator.alive - before)
    assert left_over == [0] * len(errors)
    assert len(errors) >= 3
    for error in errors:
        assert str(error).startswith("not enough memory to run the large engine: 1048576.00 GiB needed, ")
        assert str(error).endswith(" free; lower the batch or the size")
        assert error.needed == 2**50
        assert error.free is not None
        assert 0 < error.free < 2**50
    allocator.left = 10**9
    assert list(run_once(session, random_inputs(2, 4, 12))) == ["velocity", "key.0", "value.0"]


def test_spare_memory_that_does_not_fit_leaves_the_scratch_memory_as_it_was(open_one, allocator):
    session = open_one("tensorrt").session()
    inputs, velocity = random_inputs(2, 16, 0), torch.empty(2, 16, 4)
    allocator.left = 1
    before = session._scratch
    with pytest.raises(OutOfMemory):
        session.bind(inputs, {"velocity": velocity})
    assert session._scratch is before
    assert not session._spare


def test_a_plan_that_was_opened_for_a_call_without_room_is_closed_again(open_one, allocator):
    engine = open_one("split")
    session = engine.session()
    allocator.left = 3
    with pytest.raises(OutOfMemory):
        session.bind(random_inputs(2, 4, 12))
    assert not engine._engines
    allocator.left = 10**9
    call = session.bind(random_inputs(2, 4, 12))
    allocator.left = 0
    with pytest.raises(OutOfMemory):
        session.bind(random_inputs(2, 16, 0))
    assert engine._engines, "another call is held of it"
    call.run()


@pytest.mark.parametrize(
    "fail",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 1 GiB"),
        MemoryError("Unable to allocate 2.00 MiB for an array with shape (2097152,)"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_weights_that_do_not_fit_are_told_with_what_they_take(stand_in, monkeypatch, fail):
    manifest = replace(stand_in[0], weight_bytes=3 * 2**30, checkpoint="nowhere")
    read = []

    def load(component, device):
        weight = torch.zeros(10)
        read.append(weakref.ref(weight))
        raise fail

    monkeypatch.setattr(torch_engine, "family_of", lambda _: SimpleNamespace(describe=lambda *_: None))
    monkeypatch.setattr(torch_engine, "load_module", load)
    with pytest.raises(OutOfMemory, match=r"^not enough memory to load the large engine: 3\.00 GiB needed, ") as caught:
        TorchEngine(manifest)
    fail.__traceback__ = None  # pytest's parameter lives on
    assert read[0]() is None
    assert caught.value.needed == 3 * 2**30


def test_a_plan_that_onnx_runtime_has_no_memory_for_is_told(stand_in, monkeypatch):
    import onnxruntime

    def fail(*_, **__):
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(OutOfMemory, match=r"^not enough memory to load the large engine: .* MiB needed, .* GiB free; "):
        OnnxRuntimeEngine(stand_in[0], stand_in[1])


def test_onnx_runtime_s_own_allocations_are_told(open_one, monkeypatch):
    engine = open_one("onnxruntime")
    call = engine.session().bind(random_inputs(2, 4, 12))

    def fail(_):
        raise RuntimeError("bfc_arena.cc: Failed to allocate memory for requested buffer of size 4194304")

    monkeypatch.setattr(engine, "_session", SimpleNamespace(run_with_iobinding=fail))
    with pytest.raises(OutOfMemory, match=r"^not enough memory to run the large engine: 4\.00 MiB needed, "):
        call.run()


@pytest.mark.parametrize(
    ("owner", "name", "purpose"),
    [
        (fake_tensorrt.Runtime, "deserialize_cuda_engine", "load"),
        (fake_tensorrt.Plan, "create_execution_context", "run"),
        (fake_tensorrt.Context, "execute_async_v3", "run"),
    ],
)
def test_tensorrt_s_own_allocations_are_told(open_one, monkeypatch, owner, name, purpose):
    def fail(self, _):
        log = self.plan.log if owner is fake_tensorrt.Context else self.log
        log.log(fake_tensorrt.ILogger.Severity.ERROR, TENSORRT_SAYS)

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OutOfMemory, match=rf"^not enough memory to {purpose} the large engine: \S+ MiB needed, "):
        run_once(open_one("tensorrt").session(), random_inputs(2, 4, 12))


def test_a_reason_that_speaks_of_memory_is_not_a_lack_of_it(open_one, monkeypatch):
    def fail(self, _):
        self.plan.log.log(fake_tensorrt.ILogger.Severity.ERROR, "Cuda Runtime (an illegal memory access was met)")

    monkeypatch.setattr(fake_tensorrt.Context, "execute_async_v3", fail)
    with pytest.raises(HybridStitchError, match="the large engine failed: Cuda Runtime") as caught:
        run_once(open_one("tensorrt").session(), random_inputs(2, 4, 12))
    assert not isinstance(caught.value, OutOfMemory)


@pytest.mark.parametrize(
    ("error", "free", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 39 GiB"),
            3 * 2**30,
            "not enough GPU memory to draw: 20.00 GiB needed, 3.00 GiB free; draw less",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), 0, "not enough GPU memory to draw: 0.00 MiB free; dr"),
        (RuntimeError("CUDA out of memory"), None, "not enough GPU memory to draw; draw less"),
    ],
)
def test_a_gpu_s_lack_of_memory_is_told_with_what_is_known(monkeypatch, error, free, words):
    def mem_get_info(_):
        if free is None:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return free, 80 * 2**30

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    with pytest.raises(OutOfMemory) as caught, Allocation("draw", GPU, "draw less"):
        raise error
    assert str(caught.value).startswith(words)


def test_host_memory_that_a_gpu_run_lacks_is_not_called_the_gpu_s(monkeypatch):
    monkeypatch.setattr("hybridstitch.engines.out_of_memory.free_host_memory", lambda: None)
    with (
        pytest.raises(OutOfMemory, match=r"^not enough memory to draw; draw less$"),
        Allocation("draw", GPU, "draw less"),
    ):
        raise MemoryError


def test_the_outermost_context_has_the_last_word_and_keeps_the_numbers():
    outer, inner = Allocation("verify", CPU, "a larger machine"), Allocation("run", CPU, "less", needed=7 * 2**20)
    with pytest.raises(OutOfMemory, match=r"^not enough memory to verify: 7\.00 MiB needed, ") as caught, outer, inner:
        raise MemoryError
    assert caught.value.needed == 7 * 2**20
    assert caught.value.__context__ is None


def test_other_errors_pass_as_they_are():
    error = RuntimeError("no kernel image is available")
    with pytest.raises(RuntimeError, match="no kernel image") as caught, Allocation("draw", CPU, "draw less"):
        raise error
    assert caught.value is error
