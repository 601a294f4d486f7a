"""What the tests of the HTTP front share: a front over a double, asked directly or through a real server."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from service_double import Double
from starlette.testclient import TestClient

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.serving.http.app import create_app
from hybridstitch.runtime.serving.http.front import Front
from hybridstitch.runtime.serving.http.listening import listen
from hybridstitch.runtime.serving.http.server import make_server
from hybridstitch.runtime.serving.options import ServiceOptions


@contextmanager
def served(front: Front, keys: Sequence[bytes] = ()) -> Iterator[str]:
    """A real server in a thread; gives its address."""
    listening, server = listen("127.0.0.1", 0), make_server(front, keys)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(20)
        stuck = sys._current_frames().get(thread.ident or 0)
        assert not thread.is_alive(), "".join(traceback.format_stack(stuck))


def front_of(service, **options) -> Front:
    log_prompts = options.pop("log_prompts", False)
    front = Front(Recipe.load("demo"), "0.1.0", ServiceOptions(**options), log_prompts=log_prompts)
    front.open(service)
    return front


@pytest.fixture
def double() -> Double:
    return Double(Recipe.load("demo"))


@pytest.fixture
def client(double) -> TestClient:
    """Asks the application over the double, without a network."""
    return TestClient(create_app(front_of(double)), raise_server_exceptions=False)


@pytest.fixture
def live(double) -> Iterator[str]:
    """The address of a real server over the double."""
    with served(front_of(double)) as address:
        yield address


@pytest.fixture(scope="session")
def demo(service) -> Iterator[str]:
    """The address of a real server over the demo pair."""
    with served(front_of(service)) as address:
        yield address


@pytest.fixture(scope="session")
def serve_front() -> Callable:
    """`served` and `front_of`, for tests with options of their own."""
    return lambda service, keys=(), **options: served(front_of(service, **options), keys)
