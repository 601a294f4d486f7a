"""Requests that are made to do harm: each is refused early, in one line, and the others go on."""

from __future__ import annotations

import json
import re
import resource
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx2
import pytest

from hybridstitch.serving import errors
from hybridstitch.serving.http import connections
from hybridstitch.serving.http.connections import MAX_HEAD, allow_connections
from hybridstitch.serving.http.schema import IGNORED, MAX_DEPTH

URL = "/v1/images/generations"
JSON = {"content-type": "application/json"}
LONG = "x" * 100_000
CODES = re.compile(r'(\w+)="([^"]*)"')


def opened(address: str) -> socket.socket:
    """A connection to a server on which nothing has been said yet."""
    host, _, port = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: pictures", *headers, "", ""]).encode("latin-1")


def closed(connection: socket.socket) -> bool:
    """Whether the other side has ended the connection; waits for it."""
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True


@pytest.mark.parametrize("name", ["prompt", "size", "adaptive", "user", "colour"])
@pytest.mark.parametrize("depth", [MAX_DEPTH, 900, 120_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_a_body_that_is_nested_deeply_is_a_400_at_once(client, double, name, depth, opening, closing):
    depth = min(depth, 250_000 // (len(opening) + 1))
    body = '{"prompt": "a star", "%s": %s1%s}' % (name, opening * depth, closing * depth)  # noqa: UP031
    before = time.monotonic()
    answer = client.post(URL, content=body, headers=JSON)
    assert time.monotonic() - before < 2
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("invalid_json", "invalid_value")
    assert double.taken == []


def test_what_is_ignored_may_hold_lists_and_objects_that_are_not_so_deep(client):
    deep = json.loads("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    for name in IGNORED:
        for held in (deep, {"a": [{"b": [LONG]}]}):
            assert client.post(URL, json={"prompt": "a star", name: held}).status_code == 200


@pytest.mark.parametrize("name", ["model", "n", "size", "seed", "score", "method", "adaptive", "num_inference_steps"])
@pytest.mark.parametrize("value", [LONG, [LONG], {LONG: LONG}], ids=["text", "list", "object"])
def test_an_error_tells_no_more_than_the_beginning_of_what_was_sent(client, name, value):
    answer = client.post(URL, json={"prompt": "a star", name: value})
    assert answer.status_code == (404 if name == "model" and value == LONG else 400)
    assert len(answer.content) < 600


def test_thousands_of_parameters_are_one_line(client):
    answer = client.post(URL, json={"prompt": "a star", **{f"parameter-{k}": k for k in range(9000)}})
    assert answer.status_code == 400
    assert len(answer.content) < 600


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_an_endless_prompt_is_refused_before_a_tokenizer_reads_it(demo, name):
    for text in (LONG, "star " * 40_000, " " * 100_000 + "star", "\U0001f31f" * 20_000):
        answer = httpx2.post(f"{demo}{URL}", json={"prompt": "a star", name: text})
        assert answer.status_code == 400, answer.text
        assert "characters and the limit is 10000: shorten it" in answer.json()["error"]["message"]


@pytest.mark.parametrize("said", ["Content-Length: 104857600", "Transfer-Encoding: chunked"])
def test_a_body_of_100_mb_is_refused_after_256_kib_of_it_and_never_held(live, double, said):
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened(live) as connection, suppress(ConnectionError):
        connection.sendall(head(URL, "Content-Type: application/json", said))
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n" if "chunked" in said else b" " * 65536
        for _ in range(5 if "chunked" in said else 0):
            connection.sendall(piece)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        for _ in range(1600):
            connection.sendall(piece)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 20_000  # KiB
    assert httpx2.get(f"{live}/health").status_code == 200
    assert double.taken == []


@pytest.mark.parametrize(
    "headers",
    [
        [f"X-{k}: 1" for k in range(10_000)],
        [f"X-Long: {'x' * MAX_HEAD}"],
        [f"Authorization: Bearer {'x' * MAX_HEAD}"],
    ],
    ids=["many", "long", "key"],
)
def test_headers_beyond_32_kib_are_refused(live, headers):
    with opened(live) as connection:
        with suppress(ConnectionError):
            connection.sendall(head("/health", *headers, method="GET"))
        assert connection.recv(65536)[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")  # 431: it came all at once


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 100, b"\x16\x03\x01" + b"\xff" * 500, b"GET / HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_http_is_a_400_or_the_end(live, garbage):
    with opened(live) as connection:
        connection.sendall(garbage)
        assert connection.recv(4096)[:13] in (b"HTTP/1.1 400 ", b"")
    assert httpx2.get(f"{live}/health").status_code == 200


def test_a_thousand_connections_that_say_nothing_stop_nobody(live):
    allow_connections()
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 200  # both ends are in this process
    with ExitStack() as idle:
        for _ in range(min(1000, room)):
            idle.enter_context(opened(live))
        before = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: httpx2.post(f"{live}{URL}", json={"prompt": "a star"}), range(8)))
        assert [answer.status_code for answer in answers] == [200] * 8
        assert time.monotonic() - before < 10


def test_a_client_that_says_nothing_or_says_it_too_slowly_is_ended(live, monkeypatch):
    monkeypatch.setattr(connections, "ARRIVAL", 0.5)
    beginnings = {
        "nothing": b"",
        "half a head": head("/health", method="GET")[:-2],
        "half a body": head(URL, "Content-Type: application/json", "Content-Length: 100") + b"{",
        "a refused body": head(URL, "Content-Type: application/json", "Content-Length: 104857600"),
    }
    for said in beginnings.values():
        with opened(live) as connection:
            connection.sendall(said)
            before = time.monotonic()
            while time.monotonic() - before < 0.4:  # each byte comes in time, the whole does not
                time.sleep(0.1)
                if said:
                    connection.sendall(b"x")
            assert closed(connection)
            assert time.monotonic() - before < 5


def test_a_request_that_came_in_time_may_take_as_long_as_it_takes(live, double, monkeypatch):
    monkeypatch.setattr(connections, "ARRIVAL", 0.3)
    double.go.clear()
    with ThreadPoolExecutor(1) as pool, httpx2.Client(base_url=live, timeout=20) as client:
        answer = pool.submit(client.post, URL, json={"prompt": "a star"})
        time.sleep(1)
        double.go.set()
        assert answer.result().status_code == 200
        time.sleep(1)  # and a connection that is kept is not ended either
        assert client.get("/health").status_code == 200


def test_no_request_can_make_a_label_of_a_metric(client, double):
    double.broken.add("broken")
    for body in (
        {"prompt": LONG},
        {"prompt": "a star", "model": "other"},
        {"prompt": "a star", "method": "of my own"},
        {"prompt": "a star", "size": "9x9"},
        {"prompt": "broken"},
        {"prompt": "a star", "user": "somebody", "method": "small"},
    ):
        client.post(URL, json=body, headers={"User-Agent": LONG[:500], "X-Request-Id": LONG[:500]})
    for path in ("/nowhere", f"/v1/models/{LONG[:500]}", "/metrics?name=value"):
        client.get(path)
    found = set(CODES.findall(client.get("/metrics").text))
    kinds = {kind.kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "kind")}
    stages = {"text", "large", "hybrid", "small", "preview", "decode"}
    assert {value for name, value in found if name == "kind"} <= kinds
    assert {value for name, value in found if name == "stage"} <= stages
    assert {name for name, _ in found} <= {"kind", "stage", "le"}


@pytest.mark.parametrize(
    "name",
    [
        "image",
        "mask",
        "image_url",
        "url",
        "file",
        "path",
        "pair",
        "engines",
        "schedule",
        "checkpoint",
        "lora",
        "callback",
    ],
)
def test_a_request_can_name_no_file_and_no_address(client, double, name):
    for value in ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/", "../../secret"):
        answer = client.post(URL, json={"prompt": "a star", name: value})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "unknown_parameter"
        answer = client.post(URL, json={"prompt": "a star", "model": value})
        assert answer.json()["error"]["code"] == "model_not_found"
    assert double.taken == []


@pytest.mark.parametrize(
    "path", ["/page/index.html", "/../app.py", "/%2e%2e/app.py", "//etc/passwd", "/v1/models/..%2f"]
)
def test_no_path_is_a_files(live, path):
    with opened(live) as connection:
        connection.sendall(head(path, "Connection: close", method="GET"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")


KEYS = (b"first", "zweiter-schlüssel".encode())


WRONG = (
    b"",
    b"Bearer",
    b"Bearer f",
    b"Bearer firs",
    b"Bearer firstfirst",
    b"Bearer " + b"x" * 20_000,
    "Bearer zweiter-schlüsse".encode(),
    "Bearer zweiter-schlüssel".encode("latin-1"),
    b"Bearer \xff\xfe\x80",
    "Bearer \U0001f511".encode(),
    b"Bearer first, second",
    b"Basic Zmlyc3Q6",
)


def test_no_wrong_key_of_any_length_or_letters_is_more_than_a_401(double, serve_state):
    with serve_state(double, KEYS) as address:
        for given in WRONG:
            answer = httpx2.get(f"{address}/v1/models", headers=[(b"Authorization", given)])
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"


def test_keys_are_compared_in_constant_time_and_every_one_of_them(double, serve_state, monkeypatch):
    gate = sys.modules["hybridstitch.serving.http.gate"]
    compare, compared = gate.hmac.compare_digest, []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(gate.hmac, "compare_digest", watched)
    with serve_state(double, KEYS) as address:
        for given in (b"first", b"f", b"x" * 500):
            httpx2.get(f"{address}/v1/models", headers=[(b"Authorization", b"Bearer " + given)])
    assert compared == [(32, 32)] * 2 * 3  # digests: no length tells anything
