"""Whatever tensors a request to Triton holds, it has one final response: a picture, or one line with the right code.

No server is needed: a few lines here stand for what its Python backend gives to a model.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_double import Double

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import METHODS
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.triton.tensors import INPUTS, OUTPUTS, PREVIEWS, PROGRESS, ModelTensor, read

PATIENCE = 20.0
QUIET = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(QUIET, max_examples=10_000)


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


@dataclass
class Response:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: Any = None


class TritonError:
    INTERNAL, INVALID_ARG, UNAVAILABLE, CANCELLED = 1, 3, 4, 6

    def __init__(self, message: str, code: int) -> None:
        self.message, self.code = message, code


class Sender:
    """Notes what is sent; `over` is set with the final response."""

    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.finals, self.over = 0, threading.Event()

    def send(self, response: Response, flags: int = 0) -> None:
        self.responses.append(response)
        if flags:
            self.finals += 1
            self.over.set()

    def is_cancelled(self) -> bool:
        return False


@dataclass
class Request:
    tensors: list[Tensor]
    microseconds: int
    sender: Sender = field(default_factory=Sender)

    def inputs(self) -> list[Tensor]:
        return self.tensors

    def timeout(self) -> int:
        return self.microseconds

    def get_response_sender(self) -> Sender:
        return self.sender

    def requested_output_names(self) -> list[str]:
        return [port.name for port in (*OUTPUTS, *PROGRESS)]


@pytest.fixture(scope="module")
def make_call():
    """The class `Call`, over what stands here for Triton's module."""
    module = SimpleNamespace(
        Tensor=Tensor, InferenceResponse=Response, TritonError=TritonError, TRITONSERVER_RESPONSE_COMPLETE_FINAL=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", module)  # type: ignore[arg-type]
        patch.delitem(sys.modules, "hybridstitch.serving.triton.call", raising=False)
        yield import_module("hybridstitch.serving.triton.call").Call
    sys.modules.pop("hybridstitch.serving.triton.call", None)


@pytest.fixture(scope="module")
def double(pipe) -> Double:
    """Refuses as the engines' service does, and draws squares."""
    double = Double(Recipe.load("demo"))
    double.resolve = pipe.requests.resolve
    return double


WORDS = st.one_of(
    st.text(max_size=100).map(str.encode),
    st.binary(max_size=40),
    st.sampled_from(
        [b"off", b"gap", b"0.5", b"nan", b"1e999", b"9" * 5000, b"128x128", b"\0", *map(str.encode, METHODS)]
    ),
)
VALUES: dict[str, st.SearchStrategy] = {
    "TYPE_STRING": WORDS.map(lambda value: np.array([value], dtype=np.object_)),
    "TYPE_INT64": st.one_of(st.integers(0, 30), st.integers(-(2**63), 2**63 - 1)).map(
        lambda n: np.array([n], np.int64)
    ),
    "TYPE_FP64": st.one_of(st.floats(0, 1), st.floats()).map(lambda number: np.array([number])),
}


def tensors(ports: tuple[ModelTensor, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the ports, each with a value of its type; a prompt is mostly there."""
    some = {port.name: VALUES[port.data_type] for port in ports if port.name != "prompt"}
    prompt = st.one_of(st.just(np.array([b"a star"], dtype=np.object_)), VALUES["TYPE_STRING"])
    return st.lists(st.sampled_from(list(some)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: some[name] for name in names}, optional={"prompt": prompt})
    )


def check_one(make_call: Any, double: Double, given_tensors: dict[str, Any], timeout: int, decoupled: bool) -> None:
    request = Request([Tensor(name, array) for name, array in given_tensors.items()], timeout)
    later = lambda call, ticket: threading.Thread(target=call, args=(ticket,)).start()  # noqa: E731
    call = make_call(request, lambda _picture: b"png", later, decoupled=decoupled)
    call.submit(double, None)
    assert request.sender.over.wait(PATIENCE)
    assert request.sender.finals == 1
    error = request.sender.responses[-1].error
    if error is not None:
        assert error.code in (TritonError.INVALID_ARG, TritonError.UNAVAILABLE), error.message
        assert "\n" not in error.message
        assert len(error.message) < 2000


CALLS = {
    "given_tensors": tensors((*INPUTS, PREVIEWS)),
    "timeout": st.sampled_from([0, 1, 10**6, 2**63 - 1]),
    "decoupled": st.booleans(),
}


@QUIET
@given(**CALLS)
def test_any_tensors_get_one_final_response(make_call, double, given_tensors, timeout, decoupled):
    check_one(make_call, double, given_tensors, timeout, decoupled)


@pytest.mark.slow
@MANY
@given(**CALLS)
def test_any_tensors_get_one_final_response_at_length(make_call, double, given_tensors, timeout, decoupled):
    check_one(make_call, double, given_tensors, timeout, decoupled)


@pytest.mark.parametrize("shape", [(0,), (2,), (1, 2)])
def test_a_tensor_of_another_number_of_elements_is_refused_in_one_line(shape):
    with pytest.raises(HybridStitchError, match="seed must have one element, not"):
        read({"seed": np.zeros(shape, np.int64)})
