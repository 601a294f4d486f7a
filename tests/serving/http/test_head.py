"""HEAD: what GET says, without what it gives."""

import socket

import pytest
from starlette.testclient import TestClient

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.app import create_app
from hybridstitch.serving.http.server_state import ServerState

OWN = ("x-request-id", "date")
"""Headers that each answer has its own of."""


def headers_of(answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OWN}


@pytest.mark.parametrize(
    "path",
    ["/", "/health", "/ready", "/v1/models", "/v1/models/demo", "/docs", "/openapi.json", "/v1/models/sd3", "/no"],
)
def test_head_has_the_status_and_headers_of_get_and_no_body(client, path):
    asked, given = client.head(path), client.get(path)
    assert asked.status_code == given.status_code
    assert headers_of(asked) == headers_of(given)
    assert (asked.content, int(asked.headers["content-length"])) == (b"", len(given.content))


def test_head_of_metrics_is_one_too(client):
    assert (client.head("/metrics").status_code, client.head("/metrics").content) == (200, b"")


def test_head_of_what_is_not_ready_is_503():
    client = TestClient(create_app(ServerState(Recipe.load("demo"), "0.1.0")))
    answer = client.head("/ready")
    assert (answer.status_code, answer.content) == (503, b"")
    assert int(answer.headers["retry-after"]) > 0


def test_head_of_what_takes_only_post_is_405_as_get_is(client):
    answer = client.head("/v1/images/generations")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.post("/health").headers["allow"] == "GET, HEAD"


def test_no_head_stands_in_the_schema(client):
    assert all("head" not in methods for methods in client.get("/openapi.json").json()["paths"].values())


def test_a_connection_goes_on_after_a_head(live):
    host, _, port = live.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for last in (b"", b"Connection: close\r\n"):
            connection.sendall(b"HEAD /v1/models HTTP/1.1\r\nHost: pictures\r\n" + last + b"\r\n")
        told = b"".join(iter(lambda: connection.recv(65536), b""))
    assert told.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"{" not in told
