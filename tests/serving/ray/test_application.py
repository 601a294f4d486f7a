"""The application that `serve run` takes, on a real Ray: its HTTP door, its replicas, and updates."""

import os
import signal
import socket
import time

import httpx2
import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray installs it")

import ray
from ray import serve

from hybridstitch.serving.ray import ApplicationOptions, app, connect

from .conftest import ask, ask_many, pixels_of, replicas_below

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def options(demo_engines, key_file) -> dict:
    """As `serve run` gives them: texts."""
    return {"engines": str(demo_engines), "cpus": "0.5", "max_replicas": "2", "api_key_file": key_file}


@pytest.fixture(scope="module")
def address(options):
    """The address of the application, which runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=128 * 2**20)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app(options), name="hybridstitch")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()
        assert not psutil.wait_procs(psutil.Process().children(recursive=True), timeout=60)[1]


def test_a_picture_over_http_is_the_one_that_the_pipeline_draws(address, drawn_alone):
    assert pixels_of(ask(address, 7)) == drawn_alone(7)


def test_who_has_no_key_gets_no_picture(address):
    assert httpx2.post(f"{address}/v1/images/generations", json={"prompt": "a star"}).status_code == 401


def test_a_bad_request_is_refused_as_by_the_http_front(address):
    answer = ask(address, 7, size="1x1")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_value"


def test_a_schedule_rolled_out_under_load_loses_no_request(address, options, tmp_path):
    schedule = tmp_path / "fast.toml"
    schedule.write_text('method = "small"\nsteps = 3\n')
    asked = ask_many(address, range(4))
    serve.run(app({**options, "schedule": str(schedule)}), name="hybridstitch")
    assert [answer.result().status_code for answer in asked] == [200] * 4
    stages = ask(address, 50, method=None, num_inference_steps=None).json()["data"][0]["timing"]["stages"]
    assert "small" in stages
    assert "large" not in stages


def test_the_queue_gets_another_replica_and_the_death_of_one_loses_no_request(address, options, pipe):
    service = connect(ApplicationOptions.parsed({**options, "max_queue": 1000}))
    tickets = []
    requests = [service.resolve("a large plain green heart on a grey background", seed=k, steps=6) for k in range(4)]
    until = time.monotonic() + 400
    while len(running := replicas_below(os.getpid())) < 2 or sum(ticket.done for ticket in tickets) < 12:
        assert time.monotonic() < until
        while sum(not ticket.done for ticket in tickets) < 8:
            tickets.append(service.submit(requests[len(tickets) % 4]))
        time.sleep(0.2)
    for replica in running:
        replica.send_signal(signal.SIGKILL)
    alone = [pipe(each.prompt, seed=each.seed, steps=6).images[0].tobytes() for each in requests]
    for number, ticket in enumerate(tickets):
        assert ticket.result(400).image.tobytes() == alone[number % 4], number
    service.close()
