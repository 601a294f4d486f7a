"""What the tests of serving share: the demo pair behind services, and requests that hold the worker."""

from __future__ import annotations

import threading
import time

import pytest

from hybridstitch.serving import Observer, Service, ServiceOptions, Update

PROMPTS = [
    "a large striped red star left of a small plain white circle on a navy background",
    "a small dotted black circle below a large plain yellow square on a sand background",
    "a large plain green heart on a grey background",
    "a large dotted blue ring on a sand background",
]
QUICK = {"steps": 4, "large_steps": 2, "hybrid_steps": 1}


@pytest.fixture(scope="session")
def service(demo_engines):
    """The demo pair, served as it is by default; not to be closed."""
    with Service.load("demo", engines=demo_engines) as service:
        yield service


@pytest.fixture
def serve(pipe, monkeypatch):
    """Makes services of the pipeline that all tests share, which outlives them; one at a time."""
    monkeypatch.setattr(pipe, "close", lambda: None)
    made = []

    def make(observer=None, on_lost=None, **options) -> Service:
        options = ServiceOptions(**{"warm_up": False, **options})
        made.append(Service(pipe, options, observer=observer, on_lost=on_lost))
        return made[-1]

    yield make
    for service in made:
        service.close(drain=False)


class Held:
    """An `on_update` that stops the worker at a step until it is let go; `updates` has all that it was told."""

    def __init__(self, step: int = 0) -> None:
        self.updates: list[Update] = []
        self.reached, self.go = threading.Event(), threading.Event()
        self._step = step

    def __call__(self, update: Update) -> None:
        self.updates.append(update)
        if update.step == self._step:
            self.reached.set()
            assert self.go.wait(60)


@pytest.fixture
def hold():
    """Makes `Held`s; whatever happens, they let go in the end."""
    made = []

    def make(step: int = 0) -> Held:
        made.append(Held(step))
        return made[-1]

    yield make
    for held in made:
        held.go.set()


@pytest.fixture
def ask(pipe):
    """Makes quick requests: of the prompt and seed of a number."""

    def make(number: int = 0, **wanted):
        return pipe.requests.resolve(PROMPTS[number % 4], seed=number, **QUICK, **wanted)

    return make


class Began(Observer):
    """Notes how many requests each batch had."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def began(self, batch_size: int) -> None:
        self.sizes.append(batch_size)


@pytest.fixture
def began() -> Began:
    return Began()


def wait_until(true, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)
