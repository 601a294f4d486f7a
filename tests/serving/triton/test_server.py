"""A real Triton server, asked by NVIDIA's own client; without one (`make triton-server`) these tests are skipped."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import kills
from hybridstitch import HybridStitch
from hybridstitch.cli import main
from hybridstitch.serving.metrics import METRICS, REFUSED, STAGE

ROOT = Path(__file__).parents[3]
SERVER, MODEL = ROOT / "build" / "triton" / "server", ROOT / "build" / "triton" / "model"
STAR = "a large striped red star on a navy background"
QUICK: Any = {"steps": 4, "large_steps": 2, "hybrid_steps": 1}
pytestmark = pytest.mark.skipif(not (MODEL / "ready").exists(), reason="no Triton server: make triton-server")


class Triton:
    """A server on the repository; ports of its own. within: a command to run it in. options: more of its own."""

    def __init__(self, repository: Path, log: Path, *options: str, within: Sequence[str] = ()) -> None:
        self.repository, self.log = repository, log
        with ExitStack() as stack:
            ports = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(3)]
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in ports)
        command = [*within, str(SERVER / "tritonserver"), f"--model-repository={repository}", *options]
        for kind, address in (("http", self.http), ("grpc", self.grpc), ("metrics", self.metrics)):
            command += [f"--{kind}-address=127.0.0.1", f"--{kind}-port={address.rpartition(':')[2]}"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file)

    def wait(self) -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if urlopen(f"http://{self.http}/v2/health/ready", timeout=1).status == 200:
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        pytest.fail(self.log.read_text()[-3000:])

    def start_asking(
        self, kind: str, *requests: dict, model: str = "demo", microseconds: int | None = None
    ) -> subprocess.Popen:
        url = self.http if kind == "http" else self.grpc
        client = subprocess.Popen(
            [str(SERVER / "bin" / "python"), str(Path(__file__).with_name("client.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdin is not None
        asked = {"kind": kind, "url": url, "model": model, "requests": requests, "microseconds": microseconds}
        json.dump(asked, client.stdin)
        client.stdin.close()
        return client

    def ask(self, kind: str, *requests: dict, **options: Any) -> list:
        client = self.start_asking(kind, *requests, **options)
        assert client.stdout is not None
        return json.loads(client.stdout.read())

    def value(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels; Triton shows some only once they count something."""
        text = urlopen(f"http://{self.metrics}/metrics", timeout=10).read().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        named = [sample for sample in samples if sample.name.removesuffix("_total") == name.removesuffix("_total")]
        return sum(sample.value for sample in named if labels.items() <= sample.labels.items())

    def waited_for(self, value: float, name: str, **labels: str) -> None:
        """Wait until a metric has a value, which is counted a little after its response."""
        end = time.monotonic() + 10
        while (found := self.value(name, **labels)) != value:
            assert time.monotonic() < end, f"{name} {labels} is {found}, not {value}"
            time.sleep(0.05)

    def probe(self, model: str = "demo") -> tuple[int, str]:
        command = [sys.executable, self.repository / model / "probe.py", f"http://{self.http}", "--timeout", "20"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()


@pytest.fixture(scope="module")
def repository(demo_engines, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    common = ["triton", "--pair", "demo", "--engines", str(demo_engines), "--out", str(folder)]
    common += ["--environment", str(MODEL), "--max-queue", "24", "--threads", "1"]
    assert main(common) == 0
    assert main([*common, "--decoupled"]) == 0
    return folder


@pytest.fixture(scope="module")
def triton(repository, tmp_path_factory):
    server = Triton(repository, tmp_path_factory.mktemp("log") / "log")
    server.wait()
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def drawn(demo_engines):
    """The SHA-256 of the picture that the pipeline draws of a seed."""
    with HybridStitch.load("demo", engines=demo_engines, threads=1) as pipe:

        def draw(seed: int) -> str:
            picture = np.asarray(pipe(STAR, seed=seed, **QUICK).images[0])
            return hashlib.sha256(picture.tobytes()).hexdigest()

        yield draw


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_sixteen_at_once_get_the_pictures_that_run_draws(triton, drawn, kind):
    answers = triton.ask(kind, *({"prompt": STAR, "seed": seed, **QUICK} for seed in range(16)))
    assert [answer.get("seed", answer) for answer in answers] == list(range(16))
    assert [answer["image"] for answer in answers[:3]] == [drawn(seed) for seed in range(3)]
    assert len({answer["image"] for answer in answers}) == 16
    assert json.loads(answers[0]["timing"])["total"] > 0
    assert answers[0]["method"] == "hybrid"


def test_without_a_seed_the_answer_tells_a_random_one(triton):
    first, second = triton.ask("http", *({"prompt": STAR, **QUICK} for _ in range(2)))
    assert first["seed"] != second["seed"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": ""}, "the prompt is empty: say what to draw"),
        ({"seed": 7}, "the prompt is empty: say what to draw"),
        ({}, "the prompt is empty: say what to draw"),
        ({"prompt": STAR, "steps": 0}, "steps must be a whole number from 1 to 1000, not 0"),
        ({"prompt": STAR, "residual": "some"}, "residual"),
        ({"prompt": STAR, "size": "7x7"}, "size 7x7"),
    ],
)
def test_what_does_not_fit_is_an_invalid_argument_in_our_words(triton, given, words):
    (over_http,), (over_grpc,) = triton.ask("http", given), triton.ask("grpc", given)
    assert words in over_http["error"]
    assert words in over_grpc["error"]
    assert over_http["status"] == "400"
    assert over_grpc["status"] == "StatusCode.INVALID_ARGUMENT"


FAILURES, SUCCESSES = "nv_inference_request_failure", "nv_inference_request_success"


@pytest.mark.parametrize(("model", "kind"), [("demo", "http"), ("demo", "grpc"), ("demo_stream", "stream")])
def test_triton_counts_a_refused_request_as_a_failure_and_a_picture_as_a_success(triton, model, kind):
    failures, successes = (triton.value(name, model=model) for name in (FAILURES, SUCCESSES))
    refused = triton.ask(kind, *({"prompt": STAR, "steps": 0} for _ in range(20)), model=model)
    triton.ask(kind, {"prompt": STAR, "seed": 1, **QUICK}, model=model)
    lines = [answer[0]["error"] if kind == "stream" else answer["error"] for answer in refused]
    assert {line.count("steps must be a whole number from 1 to 1000, not 0") for line in lines} == {1}
    assert "Traceback" not in lines[0]
    assert "At:" not in lines[0]
    triton.waited_for(failures + 20, FAILURES, model=model)
    triton.waited_for(successes + 1, SUCCESSES, model=model)


def test_the_service_s_metrics_are_on_triton_s_page_by_the_names_that_the_http_front_has(triton):
    own = {"model": "demo", "instance": "demo_0_0"}
    before = triton.value("hybridstitch_picture_seconds_count", **own)
    all_stages = {"prompt": STAR, "seed": 1, "steps": 12}
    triton.ask("http", all_stages, microseconds=60_000_000)
    triton.ask("http", {"prompt": STAR, "steps": 1000}, microseconds=200_000)
    triton.waited_for(before + 1, "hybridstitch_picture_seconds_count", **own)
    triton.waited_for(1, "hybridstitch_pictures_failed_total", kind="timed_out", **own)
    triton.waited_for(1, "hybridstitch_ready", **own)
    triton.waited_for(0, "hybridstitch_pictures_running", **own)
    triton.waited_for(0, "hybridstitch_pictures_waiting", **own)
    text = urlopen(f"http://{triton.metrics}/metrics", timeout=10).read().decode()
    counted = [metric for metric in METRICS if metric != REFUSED]  # by kind: shown once there is one
    assert [metric.name for metric in counted if f"# HELP {metric.name} {metric.help}\n" not in text] == []
    stages = [triton.value(f"{STAGE.name}_count", stage=stage, **own) for stage in ("text", "large", "hybrid", "small")]
    assert min(stages) > 0


def test_a_full_queue_is_unavailable_and_the_others_are_drawn(triton):
    answers = triton.ask("grpc", *({"prompt": STAR, "seed": seed, "steps": 10} for seed in range(40)))
    refused = [answer for answer in answers if "error" in answer]
    assert refused
    assert {answer["status"] for answer in refused} == {"StatusCode.UNAVAILABLE"}
    assert "the queue is full" in refused[0]["error"]
    assert len(answers) - len(refused) >= 24
    triton.waited_for(len(refused), "hybridstitch_pictures_refused_total", kind="queue_full", model="demo")


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_request_s_own_timeout_ends_it_as_unavailable_and_no_other(triton, drawn, kind):
    (late,) = triton.ask(kind, {"prompt": STAR, "steps": 1000}, microseconds=200_000)
    assert "no picture within 0.2 s" in late["error"]
    assert late["status"] == ("503" if kind == "http" else "StatusCode.UNAVAILABLE")
    assert triton.ask(kind, {"prompt": STAR, "seed": 1, **QUICK})[0]["image"] == drawn(1)


def test_a_decoupled_model_tells_each_step_shows_previews_and_ends_with_the_picture(triton, drawn):
    (answers,) = triton.ask("stream", {"prompt": STAR, "seed": 1, "previews": 1, **QUICK}, model="demo_stream")
    *steps, picture = answers
    assert [answer["step"] for answer in steps if "step" in answer][-1] <= 4
    assert {answer["stage"] for answer in steps} <= {"large", "hybrid", "small"}
    assert sum("preview" in answer for answer in steps) == 1
    assert picture["image"] == drawn(1)


def test_a_signal_lets_it_finish_what_it_has_taken(repository, tmp_path):
    server = Triton(repository, tmp_path / "log")
    server.wait()
    assert server.probe()[0] == 0
    client = server.start_asking("grpc", *({"prompt": STAR, "seed": seed, "steps": 16} for seed in range(8)))
    time.sleep(2.0)
    assert client.poll() is None, "all was drawn before the signal"
    server.process.send_signal(signal.SIGTERM)
    assert client.stdout is not None
    answers = json.loads(client.stdout.read())
    assert [answer.get("seed", answer) for answer in answers] == list(range(8))
    assert server.process.wait(60) == 0


def test_a_model_whose_process_died_is_not_healthy_by_the_probe(repository, tmp_path):
    server = Triton(repository, tmp_path / "log")
    try:
        server.wait()
        assert "demo is healthy: it drew a picture in " in server.probe()[1]
        for child in kills.children(server.process.pid):
            os.kill(child, signal.SIGKILL)
        code, words = server.probe()
        assert code == 1
        assert words.startswith("demo is not healthy: ")
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.slow
def test_as_a_container_s_first_process_it_ends_after_its_exit_timeout(demo_engines, tmp_path):
    container = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*container, "true"], check=False).returncode:
        pytest.skip("no process namespace can be made here")
    made = ["triton", "--pair", "demo", "--engines", str(demo_engines), "--out", str(tmp_path / "models")]
    assert main([*made, "--environment", str(MODEL), "--threads", "1", "--end-server"]) == 0
    server = Triton(tmp_path / "models", tmp_path / "log", "--exit-timeout-secs=3", within=container)
    try:
        server.wait()
        client = server.start_asking("http", {"prompt": STAR, "seed": 1, "steps": 100})
        time.sleep(2.0)
        assert client.poll() is None, "it was drawn before the kill"
        (first,) = kills.children(server.process.pid)
        for stub in (child for child in kills.children(first) if "python_backend_stub" in kills.words_of(child)):
            os.kill(stub, signal.SIGKILL)
        killed = time.monotonic()
        assert server.process.wait(30) == 1
        assert time.monotonic() - killed > 2.5
        client.wait(30)
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 50])
def test_whatever_is_killed_it_draws_again_by_itself_and_no_request_hangs(demo_engines, times):
    with kills.triton(demo_engines) as front:
        found = kills.endure(front, times, random.Random(0))
    assert max(found["seconds"]) < kills.PATIENCE
    assert len(found["seconds"]) == times
