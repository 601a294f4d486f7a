"""A server whose service can never draw again: it says so, answers what it has taken, and ends with its own code."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import torch

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http import server as module
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.server_state import ServerState
from hybridstitch.serving.process_exit import LOST_EXIT_CODE

ROOT = Path(__file__).parents[3]
SECONDS = 60
WHY = "cuda:0 is lost: CUDA error: an illegal memory access was encountered"

WORKER = """
import sys
from pathlib import Path
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.errors import Closed
from hybridstitch.serving.http.server_state import ServerState
from hybridstitch.serving.http.listening import inherited, listen
from hybridstitch.serving.http.logs import log_as_json
from hybridstitch.serving.http.server import serve
from tests.service_double import Double

double = Double(Recipe.load("demo"))

def load(on_lost):
    def step(number):
        if number and not lost.exists():
            lost.touch()
            double.lost = "cuda:0 is lost: CUDA error: an illegal memory access was encountered"
            on_lost(double.lost)
        if double.lost:
            raise Closed(double.lost)

    double.step = step
    return double

log_as_json()
lost = Path(sys.argv[1])
listening = inherited(int(sys.argv[-1])) if sys.argv[2:] else listen("127.0.0.1", 0)
serve(ServerState(double.recipe, "0.1.0"), load, listening)
"""

PARENT = """
import sys
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.logs import log_as_json
from hybridstitch.serving.http.restart import Restarting

log_as_json()
with listen("127.0.0.1", 0) as listening:
    sys.exit(Restarting([sys.executable, "-c", sys.argv[1], sys.argv[2]], listening).run())
"""


class Started:
    """A process with its log."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", *command], stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def told(self, event: str) -> dict:
        """The next line of the log that is about that."""
        for line in self.process.stderr or ():
            found = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"the log ended without {event}")

    def draw(self, url: str) -> httpx2.Response:
        return httpx2.post(f"{url}/v1/images/generations", json={"prompt": "a star"}, timeout=SECONDS)


def test_without_restart_the_picture_that_was_taken_is_answered_and_the_process_ends_with_its_code(tmp_path):
    server = Started(WORKER, str(tmp_path / "lost"))
    try:
        url = server.told("listening")["url"]
        server.told("ready")
        answer = server.draw(url)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
        assert WHY in answer.json()["error"]["message"]
        server.told(f"the process ends with exit code {LOST_EXIT_CODE}: {WHY}")
        assert server.process.wait(SECONDS) == LOST_EXIT_CODE
    finally:
        server.process.kill()


def test_with_restart_another_worker_draws(tmp_path):
    server = Started(PARENT, WORKER, str(tmp_path / "lost"))
    try:
        url = server.told("listening")["url"]
        server.told("ready")
        assert server.draw(url).status_code == 503
        assert server.told("worker died")["exit_code"] == LOST_EXIT_CODE
        server.told("ready")
        assert server.draw(url).status_code == 200
        assert server.process.poll() is None
    finally:
        server.process.terminate()
        assert server.process.wait(SECONDS) == 0


def test_health_fails_once_the_service_is_lost_though_the_process_is_there(client, double):
    assert client.get("/health").status_code == 200
    double.problem = "no picture in 3 batches"
    assert client.get("/health").status_code == 200  # it may draw again
    double.problem = double.lost = WHY
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == f"this process draws no more: {WHY}"
    assert client.get("/ready").status_code == 503


def test_a_client_that_does_not_read_its_answer_does_not_keep_the_process(double, monkeypatch):
    ended, problems = threading.Event(), []

    def end(problem: str) -> None:
        problems.append(problem)
        ended.set()

    monkeypatch.setattr(module, "end_process", end)
    monkeypatch.setattr(module, "LAST_WORDS", 0.1)
    lost: list[str] = []
    fake: Any = SimpleNamespace(should_exit=False)
    state = ServerState(double.recipe, "0.1.0")
    hooks = []

    def load(on_lost):
        hooks.append(on_lost)
        return double

    module._load(state, load, fake, lost)
    hooks[0](WHY)
    assert fake.should_exit
    assert ended.wait(20)
    assert (problems, lost) == ([WHY], [WHY])


def test_a_device_that_is_lost_while_the_engines_are_loaded_ends_it_with_that_code_too(monkeypatch):
    ended = []

    def end(problem: str) -> None:
        ended.append(problem)
        raise SystemExit(LOST_EXIT_CODE)

    def load(_on_lost):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(module, "end_process", end)
    monkeypatch.setattr(module, "LAST_WORDS", 3600.0)
    with pytest.raises(SystemExit) as stop:
        module.serve(ServerState(Recipe.load("demo"), "0.1.0"), load, listen("127.0.0.1", 0))
    assert stop.value.code == LOST_EXIT_CODE
    assert ended == ["CUDA error: device-side assert triggered"]
