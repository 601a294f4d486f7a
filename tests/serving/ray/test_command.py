"""`serve --ray` with a real Ray: one that is started by the command, with two replicas."""

import json
import signal
import subprocess
import sys
import threading
import time

import httpx2
import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray installs it")

import grpc  # comes with Ray

from .conftest import ask, ask_many, pixels_of, replicas_below

pytestmark = pytest.mark.ray
START = 400
"""Seconds that a Ray and two replicas may take to start, on a machine with other work."""


class Command:
    """The command, while it runs. lines: its log."""

    def __init__(self, *arguments: str) -> None:
        words = [sys.executable, "-m", "hybridstitch.cli", "serve", "--ray", "--port", "0", *arguments]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.address = self.wait_for("listening")["url"]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def wait_for(self, event: str) -> dict:
        until = time.monotonic() + START
        while time.monotonic() < until:
            for line in list(self.lines):
                if line.startswith("{") and (told := json.loads(line))["event"] == event:
                    return told
            assert self.process.poll() is None, self.lines
            time.sleep(0.1)
        raise AssertionError(f"no {event}: {self.lines}")

    def metric(self, name: str) -> float:
        text = httpx2.get(f"{self.address}/metrics").text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    def end(self) -> int:
        code = self.process.wait(120)
        self._reader.join(10)
        return code


@pytest.fixture(scope="module")
def schedule(tmp_path_factory):
    path = tmp_path_factory.mktemp("schedule") / "fast.toml"
    path.write_text('method = "large"\nsteps = 5\n')
    return path


@pytest.fixture(scope="module")
def command(demo_engines, key_file, schedule):
    engines = ("--engines", str(demo_engines))
    command = Command(
        *engines, "--replicas", "2", "--cpus", "0.5", "--api-key-file", key_file, "--schedule", str(schedule)
    )
    try:
        command.wait_for("ready")
        yield command
    finally:
        command.process.terminate()
        command.end()


def test_a_picture_over_http_is_the_one_that_the_pipeline_draws(command, drawn_alone):
    assert pixels_of(ask(command.address, 7)) == drawn_alone(7)


def test_who_has_no_key_gets_no_picture(command):
    assert httpx2.post(f"{command.address}/v1/images/generations", json={"prompt": "a star"}).status_code == 401


def test_it_listens_on_this_machine_alone_but_for_a_port_of_each_replica(command):
    family = [psutil.Process(command.process.pid), *psutil.Process(command.process.pid).children(recursive=True)]
    replicas = {each.pid for each in replicas_below(command.process.pid)}
    opened = [
        (each.pid, connection.laddr.ip)
        for each in family
        for connection in each.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(opened) > 5
    outside = [pid for pid, address in opened if address.removeprefix("::ffff:") != "127.0.0.1"]
    assert sorted(outside) == sorted(replicas)


def test_that_port_refuses_who_has_no_token(command):
    for replica in replicas_below(command.process.pid):
        (port,) = [
            each.laddr.port
            for each in replica.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr.ip == "::"
        ]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_replica_killed_under_load_loses_no_request(command, drawn_alone):
    before = replicas_below(command.process.pid)
    assert len(before) == 2
    asked = ask_many(command.address, range(6))
    while command.metric("hybridstitch_pictures_running") < 2:
        time.sleep(0.02)
    before[0].send_signal(signal.SIGKILL)
    for seed, answer in enumerate(asked):
        assert pixels_of(answer.result()) == drawn_alone(seed), seed
    until = time.monotonic() + START
    while len(replicas_below(command.process.pid)) < 2:  # another one takes its place
        assert time.monotonic() < until
        time.sleep(0.5)


def test_a_schedule_that_is_read_again_under_load_loses_no_request(command, schedule):
    asked = ask_many(command.address, range(4))
    while command.metric("hybridstitch_pictures_running") < 1:
        time.sleep(0.02)
    schedule.write_text('method = "small"\nsteps = 3\n')
    command.process.send_signal(signal.SIGHUP)
    command.wait_for("schedule read again")
    after = ask(command.address, 50, method=None, num_inference_steps=None)
    assert [answer.result().status_code for answer in asked] == [200] * 4
    stages = after.json()["data"][0]["timing"]["stages"]
    assert set(stages) >= {"small"}
    assert "large" not in stages

    schedule.write_text('method = "nothing"\n')
    command.process.send_signal(signal.SIGHUP)
    assert "nothing" in command.wait_for("the schedule stays as it was")["error"]
    assert ask(command.address, 51, method=None, num_inference_steps=None).status_code == 200


def test_a_signal_lets_it_finish_what_it_has_taken_and_leaves_no_process(command):
    family = psutil.Process(command.process.pid).children(recursive=True)
    asked = ask_many(command.address, range(3))
    while command.metric("hybridstitch_pictures_running") < 1:
        time.sleep(0.02)
    command.process.send_signal(signal.SIGTERM)
    assert [answer.result().status_code for answer in asked] == [200] * 3
    assert command.end() == 0, command.lines
    _, left = psutil.wait_procs(family, timeout=60)
    assert not left
