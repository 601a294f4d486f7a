"""`hybridstitch-trt serve`: what it refuses, and how it begins and ends."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx2
import pytest

from hybridstitch.cli import main, serve
from hybridstitch.engines.cores import Load
from hybridstitch.serving import ServiceOptions

STAR = {"prompt": "a large striped red star on a navy background"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "65536"], "port must be a whole number from 0 to 65535, not 65536"),
        (["--max-queue", "0"], "max-queue must be a whole number from 1 to 100000, not 0"),
        (["--max-batch", "0"], "max-batch must be a whole number from 1 to 64, not 0"),
        (["--max-delay", "-1"], "max-delay must be at least 0 seconds, not -1"),
        (["--timeout", "0"], "timeout must be at least 0.001 seconds, not 0"),
        (["--timeout", "soon"], "timeout must be a number, not 'soon'"),
        (["--api-key-file", "/nowhere"], "--api-key-file /nowhere: No such file"),
        (["--cors-origin", "studio.example"], "--cors-origin 'studio.example' is no origin: write SCHEME://HOST"),
        (["--cors-origin", "https://a/", "--restart"], "--cors-origin 'https://a/' is no origin"),
        (["--parent-fd", "65535"], "--parent-fd 65535 is no pipe: Bad file descriptor"),
        (["--pair", "nope"], "unknown pair 'nope'; known: demo"),
        (["--replicas", "2"], "--replicas and --cpus are for --ray"),
        (["--cpus", "1"], "--replicas and --cpus are for --ray"),
        (["--ray", "--replicas", "3-2"], "replicas are a number or MIN-MAX, such as 1-4, from 1 on, not '3-2'"),
        (["--ray", "--replicas", "0"], "replicas are a number or MIN-MAX, such as 1-4, from 1 on, not '0'"),
        (["--ray", "--cpus", "0"], "cpus must be over 0 and at most 1024, not 0"),
        (["--ray", "--threads", "2"], "--threads: with --ray each replica has the GPU or the --cpus that Ray gives it"),
        (["--ray", "--restart"], "--restart and --fd are not for --ray"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:8000"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_code_2(capsys, arguments, words):
    try:
        code = main(["serve", *arguments])
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr().err
    assert code == 2
    assert words in told
    assert "Traceback" not in told


def test_a_port_that_is_taken_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_without_the_extra_the_command_that_installs_it_is_told(capsys, monkeypatch):
    monkeypatch.setattr("hybridstitch.cli.serve.find_spec", lambda name: None if name == "fastapi" else object())
    assert main(["serve"]) == 2
    told = capsys.readouterr().err
    assert told == "hybridstitch-trt serve: serving needs fastapi: pip install 'hybridstitch-trt[serve]'\n"


def test_without_ray_the_command_that_installs_it_is_told(capsys, monkeypatch):
    monkeypatch.setattr("hybridstitch.cli.serve.find_spec", lambda name: None if name == "ray" else object())
    assert main(["serve", "--ray"]) == 2
    told = capsys.readouterr().err
    assert told == "hybridstitch-trt serve: --ray needs Ray Serve: pip install 'hybridstitch-trt[ray]'\n"


def start(*arguments: str) -> tuple[subprocess.Popen, str]:
    """The command in a process of its own, and its address."""
    command = [sys.executable, "-m", "hybridstitch.cli", "serve", "--port", "0", *arguments]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    return server, json.loads(server.stderr.readline())["url"]


def test_a_signal_while_it_loads_ends_it_at_once(demo_engines):
    server, _ = start("--engines", str(demo_engines), "--threads", "1")  # of more it may say that they are too many
    server.send_signal(signal.SIGTERM)
    _, log = server.communicate(timeout=60)
    assert server.returncode == 0, log
    assert [json.loads(line)["event"] for line in log.splitlines()] == ["stopped"]


def test_it_is_alive_while_it_loads_and_a_signal_lets_it_finish_what_it_has_taken(demo_engines):
    server, address = start("--engines", str(demo_engines), "--log-prompts")
    try:
        assert httpx2.get(f"{address}/health").status_code == 200
        assert httpx2.get(f"{address}/ready").status_code == 503
        while httpx2.get(f"{address}/ready").status_code == 503:
            assert server.poll() is None
            time.sleep(0.1)
        answers = []

        def ask():
            answers.append(httpx2.post(f"{address}/v1/images/generations", json={**STAR, "seed": 7}, timeout=60))

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        while "hybridstitch_pictures_running 1.0" not in httpx2.get(f"{address}/metrics").text:
            assert not answers
        server.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join()
        _, log = server.communicate(timeout=30)
    finally:
        server.kill()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert server.returncode == 0, log
    lines = [line for line in map(json.loads, log.splitlines()) if line["event"] != "busy"]  # as the machine may be
    assert [line["event"] for line in lines] == ["ready", "request", "request", "stopped"]
    assert lines[1]["prompt"] == STAR["prompt"]
    assert (lines[1]["seed"], lines[1]["status"]) == (7, 200)


@pytest.mark.parametrize(
    ("average", "options", "told"),
    [
        (5.0, {"threads": None, "backend": "onnxruntime"}, True),
        (0.5, {"threads": None, "backend": "onnxruntime"}, False),
        (5.0, {"threads": 2, "backend": "onnxruntime"}, False),  # somebody chose
        (5.0, {"threads": None, "backend": "tensorrt"}, False),
    ],
)
def test_a_busy_machine_is_told_in_the_log_before_engines_are_loaded(monkeypatch, caplog, average, options, told):
    monkeypatch.setattr("hybridstitch.engines.cores.current_load", lambda: Load(average, 2, 2))
    monkeypatch.setattr("hybridstitch.engines.cores.physical_cores", lambda: 2)
    monkeypatch.setattr("hybridstitch.serving.service.Service.open", lambda *given, **how: (*given, how))
    with caplog.at_level("INFO", "hybridstitch"):
        given = ServiceOptions(max_queue=3, **options)
        assert serve._load(given, print) == (given, {"on_lost": print})
    lines = [(record.getMessage(), record.fields["advice"]) for record in caplog.records]
    advice = (
        "the machine is busy (load 5.0 on 2 processors): an engine's threads wait for each other, and 2 may be slower "
        "than 1; try --threads 1"
    )
    assert lines == ([("busy", advice)] if told else [])
