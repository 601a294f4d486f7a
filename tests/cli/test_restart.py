"""`hybridstitch-trt serve --restart`: whatever kills the worker, the service is there again, and nobody hangs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from hybridstitch.cli import main
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.process_exit import LOST_EXIT_CODE

SECONDS = 60.0
"""Within which the service is ready again after a kill, on a slow machine with others on it."""
STAR = {"prompt": "a star", "seed": 7, "method": "small", "num_inference_steps": 12}


class Kept:
    """A server with its parent. events: of the log so far."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "hybridstitch.cli", "serve", "--restart", "--port", "0", *arguments]
        self.parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.events: list[dict] = []
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._listening.wait(SECONDS):
            self.kill()
            self.parent.kill()
            raise AssertionError(f"not listening within {SECONDS} s: {self.events[-5:]}")
        self.url = next(event["url"] for event in self.events if event["event"] == "listening")

    def _read(self) -> None:
        for line in self.parent.stderr or ():
            self.events.append(json.loads(line) if line.startswith("{") else {"event": line.strip()})
            if self.events[-1]["event"] == "listening":
                self._listening.set()

    def worker(self) -> int | None:
        if self.parent.poll() is not None:
            return None
        children = Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def kill(self) -> None:
        """-9 to the worker, if there is one."""
        if (worker := self.worker()) is not None:
            os.kill(worker, signal.SIGKILL)

    def await_ready(self) -> float:
        """Seconds until it draws again; /ready says so by a real inference."""
        start = time.monotonic()
        while time.monotonic() < start + SECONDS:
            try:
                if httpx2.get(f"{self.url}/ready", timeout=SECONDS).status_code == 200:
                    return time.monotonic() - start
            except httpx2.TransportError:
                pass  # its worker was killed meanwhile
            time.sleep(0.05)
        raise AssertionError(f"not ready within {SECONDS} s: {self.events[-5:]}")

    def draw(self) -> str | None:
        """The picture; None: 503 for now, or the connection was closed. Never a wait without end."""
        try:
            answer = httpx2.post(f"{self.url}/v1/images/generations", json=STAR, timeout=SECONDS)
        except httpx2.TimeoutException:
            raise AssertionError("a request hangs") from None
        except httpx2.ConnectError:
            raise AssertionError("a connection is refused") from None
        except httpx2.TransportError:
            return None
        assert answer.status_code in (200, 429, 503), answer.text
        return answer.json()["data"][0]["b64_json"] if answer.status_code == 200 else None


@contextmanager
def kept(*arguments: str) -> Iterator[Kept]:
    server = Kept(*arguments)
    try:
        yield server
    finally:
        server.parent.send_signal(signal.SIGTERM)
        try:
            server.parent.wait(30)
        finally:
            server.kill()
            server.parent.kill()


def check_kills(engines: Path, times: int) -> None:
    moments = random.Random(0)
    with kept("--engines", str(engines), "--threads", "1") as server, ThreadPoolExecutor(3) as clients:
        server.await_ready()
        picture = server.draw()
        assert picture is not None
        for _ in range(times):
            asked = [clients.submit(server.draw) for _ in range(3)]
            time.sleep(moments.uniform(0, 1.0))
            server.kill()
            late = clients.submit(server.draw)  # while there is no worker
            assert {each.result(2 * SECONDS) for each in (*asked, late)} <= {picture, None}
            server.await_ready()
            assert server.draw() == picture
        assert server.parent.poll() is None
        assert sum(event["event"] == "worker died" for event in server.events) == times


def test_a_kill_at_a_random_moment_loses_connections_and_nothing_else(demo_engines):
    check_kills(demo_engines, 1)


@pytest.mark.slow
def test_fifty_kills_at_random_moments_lose_connections_and_nothing_else(demo_engines):
    check_kills(demo_engines, 50)


FAULT = """
import sys
from pathlib import Path

if "--parent-fd" in sys.orig_argv:  # the worker
    import torch
    from hybridstitch.runtime.timing import Stopwatch

    finish = Stopwatch.finish

    def fail_once(watch):
        lost = Path(__file__).with_name("lost")
        if not lost.exists():
            lost.touch()
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return finish(watch)

    Stopwatch.finish = fail_once
"""


@pytest.mark.slow
def test_a_device_that_is_lost_ends_the_worker_and_the_next_one_draws(demo_engines, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with kept("--engines", str(demo_engines), "--threads", "1") as server:
        server.await_ready()
        picture = server.draw()
        start = time.monotonic()
        while not (died := [event for event in server.events if event["event"] == "worker died"]):
            assert time.monotonic() - start < SECONDS, server.events
            time.sleep(0.05)
        assert died[0]["exit_code"] == LOST_EXIT_CODE
        why = "cpu is lost: CUDA error: an illegal memory access was encountered"
        told = [event["event"] for event in server.events]
        assert f"no more pictures: {why}" in told
        assert f"the process ends with exit code {LOST_EXIT_CODE}: {why}" in told
        server.await_ready()
        assert server.draw() == picture is not None


def test_a_signal_to_the_parent_lets_the_worker_finish_and_ends_both(demo_engines):
    with kept("--engines", str(demo_engines), "--threads", "1") as server, ThreadPoolExecutor(1) as clients:
        server.await_ready()
        asked = clients.submit(server.draw)
        while "hybridstitch_pictures_running 1.0" not in httpx2.get(f"{server.url}/metrics").text:
            assert not asked.done()
        worker = server.worker()
        server.parent.send_signal(signal.SIGTERM)
        assert asked.result(SECONDS) is not None
        assert server.parent.wait(30) == 0
        assert not Path(f"/proc/{worker}").exists()
        assert server.events[-1]["event"] == "stopped"


def test_a_kill_of_the_parent_ends_the_worker_by_itself_and_frees_the_port(demo_engines):
    with kept("--engines", str(demo_engines), "--threads", "1") as server:
        server.await_ready()
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(HybridStitchError, match="Address already in use"):
            listen("127.0.0.1", port)
        server.parent.kill()
        start = time.monotonic()
        while time.monotonic() - start < SECONDS:
            try:
                listen("127.0.0.1", port).close()
                return
            except HybridStitchError:
                time.sleep(0.1)
        raise AssertionError(f"the port is not free after {SECONDS} s")


def test_engines_that_are_not_there_end_it_with_one_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "hybridstitch.cli",
        "serve",
        "--restart",
        "--port",
        "0",
        "--engines",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("hybridstitch-trt serve: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fd", "0"], "--fd 0 is no socket"),
        (["--fd", "many"], "fd must be a whole number from 0 to 65535"),
        (["--restart", "--fd", "3"], "--restart opens the socket itself: leave --fd out"),
    ],
)
def test_a_socket_that_is_none_is_told(capsys, arguments, words):
    try:
        code = main(["serve", *arguments])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert words in capsys.readouterr().err
