"""Connections that say nothing: how they are counted, and (slowly) that ten thousand of them stop no front."""

import itertools
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import silence
from benchmarks.fronts import ROOT
from benchmarks.kills import FRONTS, TRITON, Kept

NEEDS = {"http": Path(), "cpp": ROOT / "build" / "cpp" / "hybridstitch-server", "triton": TRITON / "model" / "ready"}


@contextmanager
def listening(*, hangs_up: bool):
    """A port whose connections are kept, or closed at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        kept = []

        def accept():
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                if hangs_up:
                    connection.close()
                kept.append(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(("hangs_up", "standing"), [(False, 20), (True, 0)])
def test_connections_that_still_stand_are_counted(hangs_up, standing):
    def ask():
        time.sleep(0.2)  # in which all are closed that will be
        return b"picture"

    with listening(hangs_up=hangs_up) as port:
        found = silence.beside(Kept(ask, lambda: True, list, port), 20, pictures=2)
    assert (found["connections"], found["standing"]) == (20, standing)
    assert len(found["alone"]) == len(found["beside"]) == 2


@pytest.mark.parametrize("answers", [[None], [b"picture", b"another"], [b"picture", b"picture", None]])
def test_a_picture_that_is_not_drawn_or_is_another_ends_it(answers):
    told = itertools.chain(answers, itertools.repeat(None))
    with listening(hangs_up=False) as port, pytest.raises(RuntimeError, match="not drawn, or is another one"):
        silence.beside(Kept(lambda: next(told), lambda: True, list, port), 3, pictures=1)


def test_more_than_the_system_allows_are_refused():
    with pytest.raises(RuntimeError, match=r"connections need \d+ open files, and the system allows \d+"):
        silence.allow(10**9)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRONTS)
def test_ten_thousand_connections_that_say_nothing_stop_no_request(demo_engines, name):
    if not (ROOT / NEEDS[name]).exists():
        pytest.skip(f"{name} is not built")
    silence.allow(10_000)
    with FRONTS[name](demo_engines) as front:
        found = silence.beside(front, 10_000)
    assert max(found["beside"]) < max(found["alone"]) + 3
