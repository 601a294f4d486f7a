"""Float32 is never rounded to TF32 where PyTorch runs a model."""

from __future__ import annotations

import threading

import pytest
import torch

from hybridstitch.engines.exact_float32 import exact_float32
from hybridstitch.engines.executors.engine import run_once
from hybridstitch.engines.executors.torch_engine import TorchEngine
from hybridstitch.engines.store.folder import Store

from .handmade import compute, random_inputs, weights


def settings() -> tuple[object, object]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def allowed():
    before = settings()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_the_torch_backend_runs_without_tf32_and_leaves_the_settings_as_they_were(built, allowed):
    seen = []

    class Looking(torch.nn.Module):
        def forward(self, frozen_key, frozen_value, **inputs):
            seen.append(settings())
            inputs |= {"frozen_key.0": frozen_key[0], "frozen_value.0": frozen_value[0]}
            return tuple(compute(inputs, weights()).values())

    run_once(TorchEngine(Store(built).manifest("large"), module=Looking()).session(), random_inputs(2, 4, 12))
    assert seen == [(False, False)]
    assert settings() == (True, True)


def test_the_settings_come_back_after_an_error(allowed):
    with pytest.raises(KeyError), exact_float32():
        raise KeyError
    assert settings() == (True, True)


def test_a_thread_that_is_done_does_not_give_another_one_tf32(allowed):
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with exact_float32():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with exact_float32():
        leave.set()
        thread.join()
        assert settings() == (False, False)
    assert settings() == (True, True)
