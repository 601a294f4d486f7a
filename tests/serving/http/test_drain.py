"""The end of a server in a process of its own: what it has taken is answered, others are told, the port is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.orphan import LAST_WORDS, end_with_parent

ROOT = Path(__file__).parents[3]
URL = "/v1/images/generations"
SECONDS = 60.0
"""Within which anything here happens, on a slow machine with others on it."""

WORKER = """
import sys, time
from pathlib import Path
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.server_state import ServerState
from hybridstitch.serving.http.listening import inherited
from hybridstitch.serving.http.logs import log_as_json
from hybridstitch.serving.http.orphan import end_with_parent
from hybridstitch.serving.http.server import serve
from tests.service_double import Double

log_as_json()
end_with_parent(int(sys.argv[-3]))
double = Double(Recipe.load("demo"))
go = Path(sys.argv[-5])
double.step = lambda number: [time.sleep(0.02) for _ in iter(go.exists, True)]
serve(ServerState(double.recipe, "0.1.0"), lambda _on_lost: double, inherited(int(sys.argv[-1])))
"""

PARENT = """
import sys
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.logs import log, log_as_json
from hybridstitch.serving.http.restart import Restarting

log_as_json()
with listen("127.0.0.1", 0) as listening:
    log("port", port=listening.getsockname()[1])
    sys.exit(Restarting([sys.executable, "-c", sys.argv[1], sys.argv[2]], listening).run())
"""


class Kept:
    """A parent with its worker, whose pictures are drawn when the file `go` is there."""

    def __init__(self, go: Path) -> None:
        command = [sys.executable, "-c", PARENT, WORKER, str(go)]
        self.go = go
        self.parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        self.port = self.told("port")["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.told("ready")
        children = Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()
        self.worker = int(children[0])

    def told(self, event: str) -> dict:
        """The next line of the log that is about that."""
        for line in self.parent.stderr or ():
            found = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"the log ended without {event}")

    def draw(self) -> httpx2.Response:
        return httpx2.post(f"{self.url}{URL}", json={"prompt": "a star"}, timeout=SECONDS)

    def await_picture(self) -> None:
        """Until a picture is being drawn."""
        until(lambda: "hybridstitch_pictures_waiting 1.0" in httpx2.get(f"{self.url}/metrics").text)


def until(holds) -> None:
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < SECONDS
        time.sleep(0.02)


def gone(process: int) -> bool:
    """Whether a process has ended, even if nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def stopping(server: Kept) -> bool:
    return httpx2.get(f"{server.url}/ready").status_code == 503


@contextmanager
def kept(go: Path) -> Iterator[Kept]:
    server = Kept(go)
    try:
        yield server
    finally:
        for process in (server.parent.pid, server.worker):
            if not gone(process):
                os.kill(process, signal.SIGKILL)
        server.parent.wait(SECONDS)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_while_it_drains_new_connections_are_told_503_and_then_the_port_is_closed(tmp_path):
    with kept(tmp_path / "go") as server, ThreadPoolExecutor(1) as clients:
        taken = clients.submit(server.draw)
        server.await_picture()
        server.parent.send_signal(signal.SIGTERM)
        until(lambda: stopping(server))
        for _ in range(3):  # each of them on a connection of its own
            answer = server.draw()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
            assert "the server is stopping; try again later" in answer.json()["error"]["message"]
            assert int(answer.headers["retry-after"]) > 0
        assert httpx2.get(f"{server.url}/ready").status_code == 503
        assert httpx2.get(f"{server.url}/health").status_code == 200
        assert not taken.done()
        server.go.touch()
        assert taken.result(SECONDS).status_code == 200
        assert server.parent.wait(SECONDS) == 0
        assert gone(server.worker)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/health")


def is_free(port: int) -> bool:
    try:
        listen("127.0.0.1", port).close()
    except HybridStitchError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with a picture that takes too long"])
def test_a_worker_whose_parent_is_killed_ends_by_itself_and_frees_the_port(tmp_path, busy):
    with kept(tmp_path / "go") as server, ThreadPoolExecutor(1) as clients:
        taken = clients.submit(server.draw) if busy else None
        if busy:
            server.await_picture()
        server.parent.kill()
        before = time.monotonic()
        until(lambda: gone(server.worker))
        assert time.monotonic() - before < LAST_WORDS + 10
        until(lambda: is_free(server.port))
        if taken is not None:
            assert isinstance(taken.exception(SECONDS), httpx2.TransportError)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_whose_parent_is_killed_answers_what_it_has_taken(tmp_path):
    with kept(tmp_path / "go") as server, ThreadPoolExecutor(1) as clients:
        taken = clients.submit(server.draw)
        server.await_picture()
        server.parent.kill()
        until(lambda: stopping(server))
        server.go.touch()
        assert taken.result(SECONDS).status_code == 200
        until(lambda: gone(server.worker))


def test_a_worker_that_starts_when_its_parent_is_gone_already_ends_too():
    reading, writing = os.pipe()
    os.close(writing)
    program = textwrap.dedent("""
        import sys, time
        from hybridstitch.serving.http.orphan import end_with_parent

        end_with_parent(int(sys.argv[1]))
        time.sleep(60)
    """)
    worker = subprocess.run([sys.executable, "-c", program, str(reading)], pass_fds=[reading], cwd=ROOT, check=False)
    os.close(reading)
    assert worker.returncode == -signal.SIGTERM


def test_what_is_no_pipe_is_told():
    with pytest.raises(HybridStitchError, match="--parent-fd 999999 is no pipe: Bad file descriptor"):
        end_with_parent(999_999)
