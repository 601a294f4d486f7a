"""The parent that holds the socket, with a worker that is a few lines of Python."""

import os
import signal
import socket
import sys
import threading

import pytest

from hybridstitch.serving.http import restart
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.restart import Restarting

ANSWERS_ONCE = """
import os, socket, sys
client, _ = socket.socket(fileno=int(sys.argv[-1])).accept()
client.sendall(str(os.getpid()).encode())
client.close()
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def deadline(monkeypatch):
    """A parent that does not end by itself within 20 s is stopped by a signal, and the test fails."""
    monkeypatch.setattr(restart, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(restart, "LONGEST_WAIT", 0.4)
    late = threading.Event()

    def stop() -> None:
        late.set()
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(20, stop)
    timer.start()
    yield
    timer.cancel()
    assert not late.is_set()


def keep(program: str, listening: socket.socket) -> int:
    return Restarting([sys.executable, "-c", program], listening).run()


def test_every_connection_is_answered_though_each_worker_dies_after_one():
    answers = []

    def ask(port: int) -> None:
        try:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                    answers.append(client.recv(16))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with listen("127.0.0.1", 0) as listening:
        client = threading.Thread(target=ask, args=(listening.getsockname()[1],))
        client.start()
        assert keep(ANSWERS_ONCE, listening) == 0
        client.join(10)
    assert len(set(answers)) == 3
    assert b"" not in answers


def test_the_waits_double_up_to_the_longest_and_a_signal_ends_them(monkeypatch):
    waits = []

    def note(event: str, **values: object) -> None:
        waits.append(values["again_in_seconds"])
        if len(waits) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(restart, "log", note)
    with listen("127.0.0.1", 0) as listening:
        assert keep("raise SystemExit(3)", listening) == 0
    assert waits == [0.1, 0.2, 0.4, 0.4, 0.4]


def test_a_worker_that_lived_long_enough_starts_the_waits_anew(monkeypatch):
    waits = []

    def note(event: str, **values: object) -> None:
        waits.append(values["again_in_seconds"])
        if len(waits) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(restart, "STEADY", 0.0)
    monkeypatch.setattr(restart, "log", note)
    with listen("127.0.0.1", 0) as listening:
        assert keep("raise SystemExit(3)", listening) == 0
    assert waits == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("code", [0, 2])
def test_a_first_worker_that_ends_or_is_refused_ends_the_parent_with_its_code(code):
    with listen("127.0.0.1", 0) as listening:
        assert keep(f"raise SystemExit({code})", listening) == code


def test_a_later_worker_that_is_refused_is_started_again(monkeypatch, tmp_path):
    codes = []

    def note(event: str, **values: object) -> None:
        codes.append(values["exit_code"])

    monkeypatch.setattr(restart, "log", note)
    count = tmp_path / "count"
    program = (
        f"import pathlib; p = pathlib.Path({str(count)!r}); n = len(p.read_text()) if p.exists() else 0; "
        "p.write_text('x' * (n + 1)); raise SystemExit([3, 2, 0][n])"
    )
    with listen("127.0.0.1", 0) as listening:
        assert keep(program, listening) == 0
    assert codes == [3, 2]
