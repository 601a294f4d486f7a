"""The model's class without a server: what becomes of requests when the device is lost under them."""

from __future__ import annotations

import json
import sys
import threading
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from service_double import Double

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.errors import Closed
from hybridstitch.serving.triton.config import ModelOptions

WHY = "cuda:0 is lost: CUDA error: an illegal memory access was encountered"
MODULES = [f"hybridstitch.serving.triton.{name}" for name in ("backend", "call", "failures", "metrics")]


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class TritonError:
    INTERNAL, INVALID_ARG, UNAVAILABLE, CANCELLED = 1, 3, 4, 6

    def __init__(self, message: str, code: int) -> None:
        self.told, self.code = message, code

    def message(self) -> str:
        return self.told


class Response:
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.error = lambda: error


class Request:
    """finals: its final responses."""

    def __init__(self) -> None:
        self.finals: list[Response] = []

    def get_response_sender(self) -> Any:
        return SimpleNamespace(send=self._send, is_cancelled=lambda: False)

    def _send(self, response: Response, flags: int = 0) -> None:
        time.sleep(0.05)  # a server takes its time
        if flags:
            self.finals.append(response)

    def inputs(self) -> list[Tensor]:
        return [Tensor("prompt", np.array([b"a star"], dtype=np.object_))]

    def timeout(self) -> int:
        return 0

    def requested_output_names(self) -> list[str]:
        return ["seed"]


@pytest.fixture
def backend(monkeypatch):
    """The module, over what stands here for Triton's."""
    triton = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=TritonError,
        TritonModelException=RuntimeError,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)  # type: ignore[arg-type]
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = import_module(MODULES[0])
    monkeypatch.setattr(module, "_require_arrays", lambda: None)
    monkeypatch.setattr(module, "end_with_server", lambda: None)
    monkeypatch.setattr(module, "show_metrics", lambda _service, _labels: None)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def model(backend, monkeypatch):
    """A model of the demo pair over a double, which is its `double`; `lose` is what that service calls when lost."""
    double, hooks = Double(Recipe.load("demo")), []

    def load(_pair, **options):
        hooks.append(options["on_lost"])
        return double

    monkeypatch.setattr(backend.Service, "open", load)
    parameters = ModelOptions(engines="engines").texts()
    config = {"parameters": {name: {"string_value": value} for name, value in parameters.items()}}
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
            "model_repository": "/models",
            "model_name": "demo",
            "model_version": "1",
            "model_instance_name": "demo_0",
        }
    )
    model.double, model.lose = double, hooks[0]
    return model


def test_a_lost_device_ends_the_process_after_every_request_has_its_response(model, monkeypatch):
    requests, ended = [Request() for _ in range(4)], threading.Event()
    responses_at_the_end: list[int] = []

    def end(problem: str) -> None:
        if not ended.is_set():
            assert problem == WHY
            responses_at_the_end.extend(len(request.finals) for request in requests)
            ended.set()

    def step(_number: int) -> None:
        if model.double.lost:
            raise Closed(f"the request was not drawn: {WHY}")

    monkeypatch.setattr("hybridstitch.serving.triton.lifeline.end_process", end)
    submit, submitted = model._responders.submit, []
    monkeypatch.setattr(model._responders, "submit", lambda *call: submitted.append(submit(*call)))
    model.double.go.clear()
    model.double.step = step
    for request in requests[:3]:
        assert model.execute([request]) is None
    model.double.lost = model.double.problem = WHY
    model.double.go.set()
    until = time.monotonic() + 20
    while len(submitted) < 3:  # as a service calls everybody back before it is said to be lost
        assert time.monotonic() < until
        time.sleep(0.001)
    model.execute([requests[3]])  # it is refused at once
    model.lose(WHY)
    assert ended.wait(20)
    assert responses_at_the_end == [1, 1, 1, 1]
    for request in requests:
        error = request.finals[0].error()
        assert error.code == TritonError.UNAVAILABLE
        assert WHY in error.message()
