"""Clients that leave, or that do not read: they hold up nobody. A real server, real sockets, real engines."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from PIL import Image
from service_double import Double

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving import Service
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.server import make_server

from ..conftest import wait_until
from .conftest import state_of

SMALL_BUFFER = 4096
QUICK = {"method": "small", "num_inference_steps": 1, "seed": 3}
STAR = {"prompt": "a star"}


@contextmanager
def narrow(service: Any) -> Iterator[tuple[Any, tuple[str, int]]]:
    """A server whose connections hold little on their way; it and its address."""
    listening, server = listen("127.0.0.1", 0), make_server(state_of(service))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield server, listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(20)
        server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()


def ask(address: tuple[str, int], **body: Any) -> socket.socket:
    """Send a request, and read nothing of its answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    client.settimeout(60)
    client.connect(address)
    content = json.dumps({**STAR, "stream": True, **body}).encode()
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: "
    client.sendall(head.encode() + f"{len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    return client


def draw(address: tuple[str, int]) -> httpx2.Response:
    url = f"http://{address[0]}:{address[1]}/v1/images/generations"
    return httpx2.post(url, json={**STAR, **QUICK}, timeout=20)


def test_a_client_that_goes_away_in_mid_stream_frees_its_place(serve):
    service: Service = serve(max_queue=1)
    with narrow(service) as (_, address):
        client = ask(address, num_inference_steps=1000, method="large", progress=True)
        while b"image_generation.progress" not in client.recv(65536):
            pass
        assert service.running == 1
        client.close()
        wait_until(lambda: service.running == 0, 10)
        assert draw(address).status_code == 200


@pytest.mark.parametrize("max_batch", [1, 2])
def test_a_client_that_does_not_read_holds_up_neither_its_batch_nor_others(serve, max_batch):
    service: Service = serve(max_batch=max_batch, max_delay=0.5)
    body = {"num_inference_steps": 12, "method": "small", "progress": True, "partial_images": 3, "seed": 3}
    with narrow(service) as (_, address), ask(address, **body) as idle, ask(address, **body) as reading:
        told = b"".join(iter(lambda: reading.recv(65536), b""))
        wait_until(lambda: service.running == 0, 10)
        assert draw(address).status_code == 200
        late = b"".join(iter(lambda: idle.recv(65536), b""))
    for stream in (told, late):
        assert stream.count(b"event: image_generation.progress") == 13
        assert stream.count(b"event: image_generation.partial_image") == 3
        assert stream.count(b"event: image_generation.completed") == 1


def test_a_client_that_never_reads_is_given_up_and_does_not_keep_the_server_from_its_end(monkeypatch):
    monkeypatch.setattr("hybridstitch.serving.http.listening.UNREAD", 1.0)
    double = Double(Recipe.load("demo"))
    noise = Image.effect_noise((1024, 1024), 90).convert("RGB")
    monkeypatch.setattr("service_double.Image.new", lambda *_: noise)
    with narrow(double) as (server, address), ask(address, **QUICK, partial_images=1, n=4):
        wait_until(lambda: len(double.tickets) == 4 and all(ticket.done for ticket in double.tickets))
        assert server.server_state.connections
        start = time.monotonic()
        server.should_exit = True
        wait_until(lambda: not server.server_state.connections, 10)
        assert time.monotonic() - start < 8
