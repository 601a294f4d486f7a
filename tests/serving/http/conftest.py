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
from hybridstitch.serving.http.app import create_app
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.server import make_server
from hybridstitch.serving.http.server_state import ServerState
from hybridstitch.serving.options import ServiceOptions


@contextmanager
def served(state: ServerState, keys: Sequence[bytes] = ()) -> Iterator[str]:
    """A real server in a thread; gives its address."""
    listening, server = listen("127.0.0.1", 0), make_server(state, keys)
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


def state_of(service, **options) -> ServerState:
    log_prompts = options.pop("log_prompts", False)
    state = ServerState(Recipe.load("demo"), "0.1.0", ServiceOptions(**options), log_prompts=log_prompts)
    state.open(service)
    return state


@pytest.fixture
def double() -> Double:
    return Double(Recipe.load("demo"))


@pytest.fixture
def client(double) -> TestClient:
    """Asks the application over the double, without a network."""
    return TestClient(create_app(state_of(double)), raise_server_exceptions=False)


@pytest.fixture
def live(double) -> Iterator[str]:
    """The address of a real server over the double."""
    with served(state_of(double)) as address:
        yield address


@pytest.fixture(scope="session")
def demo(service) -> Iterator[str]:
    """The address of a real server over the demo pair."""
    with served(state_of(service)) as address:
        yield address


@pytest.fixture(scope="session")
def serve_state() -> Callable:
    """`served` and `state_of`, for tests with options of their own."""
    return lambda service, keys=(), **options: served(state_of(service, **options), keys)
