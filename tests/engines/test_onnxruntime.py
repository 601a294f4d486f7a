"""Engines on the CPU: what they compute, into whose memory, and what they refuse."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.testing import assert_close

from hybridstitch.engines.executors.engine import run_once
from hybridstitch.method.errors import HybridStitchError

from .handmade import compute, open_engine, random_inputs, weights


@pytest.fixture(scope="module")
def large(built):
    return open_engine(built, "large", backend="onnxruntime", threads=1).session()


def same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("tokens", "frozen"), [(16, 0), (12, 0), (4, 12), (5, 11), (15, 1), (1, 11)])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_engine_computes_what_torch_computes(large, batch, tokens, frozen):
    inputs = random_inputs(batch, tokens, frozen)
    outputs = run_once(large, inputs)
    assert list(outputs) == ["velocity", "key.0", "value.0"]
    for name, expected in compute(inputs, weights()).items():
        same(outputs[name], expected)


def test_given_outputs_are_written_in_place_and_come_back_alone(large):
    inputs = random_inputs(2, 4, 12)
    velocity = torch.full((2, 4, 4), torch.nan)
    address = velocity.data_ptr()
    outputs = run_once(large, inputs, {"velocity": velocity})
    assert list(outputs) == ["velocity"]
    assert outputs["velocity"] is velocity
    assert velocity.data_ptr() == address
    same(velocity, compute(inputs, weights())["velocity"])


def test_keys_can_be_written_into_a_buffer_of_the_caller(large):
    inputs = random_inputs(2, 16, 0)
    buffers = {
        "value.0": torch.empty(2, 1, 16, 4),
        "velocity": torch.empty(2, 16, 4),
        "key.0": torch.empty(2, 1, 16, 4),
    }
    run_once(large, inputs, buffers)
    for name, expected in compute(inputs, weights()).items():
        same(buffers[name], expected)


def test_a_call_that_is_bound_reads_and_writes_the_same_memory_each_time(large):
    inputs, velocity = random_inputs(2, 4, 12), torch.empty(2, 4, 4)
    call = large.bind(inputs, {"velocity": velocity})
    for _ in range(3):
        inputs["tokens"].normal_()
        call.run()
        same(velocity, compute(inputs, weights())["velocity"])
    assert call.outputs["velocity"] is velocity


def test_inputs_of_a_bound_call_are_contiguous_and_those_of_one_that_runs_once_need_not_be(large):
    inputs = random_inputs(2, 16, 0)
    inputs["tokens"] = inputs["tokens"].transpose(1, 2).contiguous().transpose(1, 2)
    with pytest.raises(HybridStitchError, match="large engine: tokens is not contiguous in memory"):
        large.bind(inputs)
    same(run_once(large, inputs)["velocity"], compute(inputs, weights())["velocity"])


def test_tensors_of_inference_mode_are_fine(large):
    with torch.inference_mode():
        inputs = random_inputs(2, 16, 0)
        same(run_once(large, inputs)["velocity"], compute(inputs, weights())["velocity"])


def test_an_engine_knows_its_device_dtype_and_profiles(large):
    engine = large.engine
    assert (engine.device, engine.dtype) == (torch.device("cpu"), torch.float32)
    assert engine.manifest.profiles[0].name == "full"
    assert engine.manifest.geometry.text_tokens == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, r"large engine: input 'tokens' is missing"),
        (
            {"mask": torch.zeros(1)},
            r"large engine: no input 'mask'; it has tokens, position, text, pooled, timestep, froz",
        ),
        ({"text": torch.zeros(2, 3, 4).half()}, r"large engine: text is float16, not float32"),
        ({"text": torch.zeros(2, 3, 5)}, r"large engine: text has shape \[2, 3, 5\], not \[2, 3, 4\]"),
        ({"text": torch.zeros(2, 3)}, r"large engine: text has shape \[2, 3\], not \[2, 3, 4\]"),
        ({"text": torch.zeros(3, 3, 4)}, r"large engine: text has shape \[3, 3, 4\], not \[2, 3, 4\]"),
        ({"position": torch.zeros(2, 9, 4)}, r"large engine: position has shape \[2, 9, 4\], not \[2, 16, 4\]"),
        ({"text": torch.zeros(2, 9, 4)}, r"large engine: 9 text tokens; this plan has 3"),
        ({"pooled": torch.zeros(2, 4, device="meta")}, r"large engine: pooled is on meta, the engine on cpu"),
    ],
)
def test_a_wrong_input_is_refused_by_name(large, change, message):
    inputs = {name: tensor for name, tensor in {**random_inputs(2, 16, 0), **change}.items() if tensor is not None}
    with pytest.raises(HybridStitchError, match=message):
        run_once(large, inputs)


@pytest.mark.parametrize(
    ("batch", "tokens", "frozen", "message"),
    [
        (2, 24, 0, r"large engine: 24 tokens; this plan has 1-16"),
        (5, 16, 0, r"large engine: 5 batch rows; this plan has 1-4"),
        (2, 4, 40, r"large engine: 40 frozen tokens; this plan has 0-15"),
        (
            2,
            4,
            0,
            r"large engine: no profile holds 4 tokens with 0 frozen tokens; this plan has full: 12-16 tokens with 0",
        ),
    ],
)
def test_lengths_outside_the_profiles_are_refused_with_what_is_allowed(large, batch, tokens, frozen, message):
    with pytest.raises(HybridStitchError, match=message):
        run_once(large, random_inputs(batch, tokens, frozen))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"noise": torch.zeros(1)}, r"large engine: no output 'noise'; it has velocity, key.0, value.0"),
        ({"velocity": torch.zeros(2, 15, 4)}, r"output velocity has shape \[2, 15, 4\], not \[2, 16, 4\]"),
        ({"velocity": torch.zeros(2, 16, 4).double()}, r"velocity is float64, not float32"),
        ({"velocity": torch.zeros(2, 4, 16).transpose(1, 2)}, r"output velocity is not contiguous in memory"),
    ],
)
def test_a_wrong_output_tensor_is_refused(large, outputs, message):
    with pytest.raises(HybridStitchError, match=message):
        run_once(large, random_inputs(2, 16, 0), outputs)


def test_a_closed_engine_says_so(built):
    engine = open_engine(built, "small", backend="onnxruntime", threads=1)
    session = engine.session()
    call = session.bind(random_inputs(2, 16, None))
    engine.close()
    for use in (engine.session, lambda: session.bind(random_inputs(2, 16, None)), call.run):
        with pytest.raises(HybridStitchError, match="the small engine is closed"):
            use()


def test_threads_must_be_positive(built):
    with pytest.raises(HybridStitchError, match="threads must be a whole number from 1 to 1024, not 0"):
        open_engine(built, "small", backend="onnxruntime", threads=0)


def test_two_sessions_of_one_engine_run_in_two_threads_at_once(built):
    engine = open_engine(built, "large", backend="onnxruntime", threads=1)
    begin = threading.Barrier(2)

    def draw(batch: int) -> list[bool]:
        session, right = engine.session(), []
        begin.wait()
        for tokens in (16, 12, 4) * 20:
            inputs = random_inputs(batch, tokens, 0 if tokens > 4 else 12)
            actual = run_once(session, inputs)["velocity"]
            right.append(torch.allclose(actual, compute(inputs, weights())["velocity"], atol=1e-4))
        return right

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(draw, (1, 4))
    assert len(first) == len(second) == 60
    assert all(first)
    assert all(second)
