"""The example server, driven as hard as it is meant to be: every request has its answer, and it is the right one."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from benchmarks import kills
from hybridstitch.cli import main

from .conftest import ROOT

PROMPTS = [
    f"a {size} plain {colour} circle on a grey background"
    for size in ("large", "small")
    for colour in ("red", "green", "blue", "yellow", "white")
]
QUICK = {"method": "small", "steps": "1"}
SEED = 30


class Server:
    """A running server. process: with its log. url: without a slash at the end."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    def ask(self, **form: object) -> tuple[int, bytes]:
        """Status and body of one request to draw."""
        try:
            with urlopen(f"{self.url}/generate", urlencode(form).encode(), timeout=300) as answer:
                assert answer.headers["Content-Type"] == "image/png"
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def picture(self, number: int) -> tuple[int, bytes]:
        """Ask for one of the pictures."""
        place = number % len(PROMPTS)
        return self.ask(prompt=PROMPTS[place], seed=SEED + place, **QUICK)

    def resident(self) -> float:
        """Megabytes of memory that it has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def ready(self) -> tuple[int, str]:
        """Status and body of its readiness."""
        try:
            with urlopen(f"{self.url}/ready", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()


@contextmanager
def serving(compiled: Path, environment: Path, engines: Path, *flags: str) -> Iterator[Server]:
    words = [str(compiled / "hybridstitch-server"), "--port", "0", "--threads", "1", "--venv", str(environment)]
    with subprocess.Popen([*words, "--engines", str(engines), *flags], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            yield Server(process, line.split()[-1])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def pictures(demo_engines, tmp_path_factory) -> list[bytes]:
    """The files that `run` writes, one for each prompt."""
    folder = tmp_path_factory.mktemp("run")
    words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    words += [word for name, value in QUICK.items() for word in (f"--{name}", value)]
    words += ["--engines", str(demo_engines), "--threads", "1", "--seed", str(SEED), "--out", str(folder), "--json"]
    assert main(["run", *words]) == 0
    return [next(folder.glob(f"*-seed{SEED + place}-*.png")).read_bytes() for place in range(len(PROMPTS))]


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_many_at_once_get_what_run_draws_in_flat_memory_and_a_signal_loses_none(
    compiled, environment, demo_engines, pictures, count
):
    with serving(compiled, environment, demo_engines, "--max-queue", "256") as server, ThreadPoolExecutor(220) as pool:
        drawn = [pool.submit(server.picture, number) for number in range(count)]
        wrong = [pool.submit(server.ask, prompt=PROMPTS[0], steps="many") for _ in range(5)]
        broken = [pool.submit(server.ask, prompt=f"{PROMPTS[0]}, broken", **QUICK) for _ in range(5)]
        answers = [future.result() for future in drawn]
        assert answers == [(200, pictures[number % len(pictures)]) for number in range(count)]
        refusal = b"steps must be a whole number from 1 to 1000, not 'many'\n"
        assert [future.result() for future in wrong] == [(400, refusal)] * 5
        assert [future.result() for future in broken] == [(500, b"vae_decoder gave NaN or infinity\n")] * 5

        set(pool.map(lambda _: server.ask(prompt=PROMPTS[0], steps="many"), range(500)))  # each thread has run once
        before = server.resident()
        assert list(pool.map(server.picture, range(count))) == answers
        assert server.resident() < before + 8, f"it had {before:.1f} MB, and now {server.resident():.1f} MB"

        lengthy = pool.submit(server.ask, prompt=PROMPTS[0], method="small", steps="600")
        waited_for(lambda: server.ready() == (200, "1 drawn, 0 wait\n"))
        flying = [pool.submit(server.picture, number) for number in range(40)]
        waited_for(lambda: lengthy.done() or server.ready() == (200, "1 drawn, 40 wait\n"))
        server.process.send_signal(signal.SIGTERM)
        waited_for(lambda: server.ready() == (503, "the service is closed\n"))
        assert server.picture(0) == (503, b"the service is closed: it takes no more requests\n")
        assert [future.result() for future in flying] == answers[:40]
        assert lengthy.result()[0] == 200
        assert server.process.wait(timeout=30) == 0


def test_a_full_queue_is_a_503_at_once(compiled, environment, demo_engines, pictures):
    with serving(compiled, environment, demo_engines, "--max-queue", "1") as server, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.picture(0), range(12)))
        assert {status for status, _ in answers} == {200, 503}
        for status, body in answers:
            full = b"the queue is full: 1 requests wait; try again later\n"
            assert body == (pictures[0] if status == 200 else full)


def waited_for(true: Callable[[], bool]) -> None:
    """Wait until a condition holds, for two minutes at most."""
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "the prompt is empty: say what to draw"),
        ({"prompt": PROMPTS[0], "seed": "1.5"}, "seed must be a whole number, not '1.5'"),
        ({"prompt": PROMPTS[0], "seed": "-1"}, "seed must be a whole number from 0 to 2^63 - 1, not -1"),
        ({"prompt": PROMPTS[0], "size": "96x9"}, "size"),
        ({"prompt": PROMPTS[0], "colour": "red"}, "unknown setting 'colour'; known: steps, guidance"),
        ({"prompt": PROMPTS[0], "timeout": "soon"}, "timeout must be a number, not 'soon'"),
    ],
)
def test_a_bad_request_is_a_400_in_one_line(server, form, words):
    status, body = server.ask(**form)
    assert (status, body.count(b"\n")) == (400, 1)
    assert words in body.decode()


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_a_body_that_is_no_form_is_a_415_that_says_what_it_takes(server, kind):
    body = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na star\r\n--x--\r\n'
    request = Request(f"{server.url}/generate", body, {"Content-Type": kind})
    with pytest.raises(HTTPError) as refused:
        urlopen(request, timeout=60)
    line = f"send a form (application/x-www-form-urlencoded), such as prompt=a+star&seed=7, not {kind}\n"
    assert (refused.value.code, refused.value.read().decode()) == (415, line)


def test_a_request_may_say_all_of_it_in_its_address(server, pictures):
    query = urlencode({"prompt": PROMPTS[0], "seed": SEED, **QUICK})
    with urlopen(Request(f"{server.url}/generate?{query}", b"", {"Content-Type": "text/plain"}), timeout=60) as answer:
        assert answer.read() == pictures[0]


def leave_soon(server: Server, **form: str) -> socket.socket:
    """Ask for a picture over a connection that the caller closes."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    body = urlencode(form).encode()
    connection.sendall(POST + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    return connection


def test_who_leaves_gives_its_picture_up_whether_it_is_drawn_or_waits(server, pictures):
    lengthy = {"prompt": PROMPTS[0], "method": "large", "steps": "1000"}
    with leave_soon(server, **lengthy):
        waited_for(lambda: server.ready() == (200, "1 drawn, 0 wait\n"))
        with leave_soon(server, **lengthy):
            waited_for(lambda: server.ready() == (200, "1 drawn, 1 wait\n"))
        waited_for(lambda: server.ready() == (200, "1 drawn, 0 wait\n"))
    start = time.monotonic()
    waited_for(lambda: server.ready() == (200, "0 drawn, 0 wait\n"))
    assert time.monotonic() - start < 3
    assert server.picture(0) == (200, pictures[0])


def test_a_signal_waits_for_no_picture_whose_client_has_left(compiled, environment, demo_engines, pictures):
    lengthy = {"prompt": PROMPTS[0], "method": "large", "steps": "1000"}
    with serving(compiled, environment, demo_engines) as server, ThreadPoolExecutor() as pool:
        with leave_soon(server, **lengthy):
            waited_for(lambda: server.ready() == (200, "1 drawn, 0 wait\n"))
            stays = pool.submit(server.picture, 1)
            waited_for(lambda: server.ready() == (200, "1 drawn, 1 wait\n"))
            server.process.send_signal(signal.SIGTERM)
            waited_for(lambda: server.ready()[0] == 503)
        assert stays.result() == (200, pictures[1])
        assert server.process.wait(timeout=10) == 0


def test_a_request_whose_time_is_up_is_a_408(server):
    assert server.ask(prompt=PROMPTS[0], timeout="0.001")[0] == 408


@pytest.fixture(scope="module")
def server(compiled, environment, demo_engines) -> Iterator[Server]:
    with serving(compiled, environment, demo_engines) as server:
        yield server


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--colour", "red"], "--colour is no flag, or has no value after it"),
        (["--port"], "--port is no flag, or has no value after it"),
        (["--port", "http"], "--port must be a whole number, not 'http'"),
        (["--venv", "/nowhere"], "/nowhere is no Python environment: it has no bin/python3"),
    ],
)
def test_a_flag_that_is_wrong_is_one_line(compiled, flags, words):
    done = subprocess.run([compiled / "hybridstitch-server", *flags], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"hybridstitch-server: {words}\n")


def said(server: Server, *pieces: bytes) -> bytes:
    """The beginning of what the server answers to bytes, of which it need not take all."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        return connection.recv(4096)


POST = b"POST /generate HTTP/1.1\r\nHost: pictures\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Length: 104857600", b"413"),
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 9", b"411"),
        (b"X: no length", b"411"),
        (b"Content-Length: 9\r\nContent-Encoding: gzip", b"415"),
    ],
)
def test_a_body_that_is_large_compressed_or_of_no_known_length_is_refused(server, header, status):
    assert said(server, POST + header + b"\r\n\r\n", b"prompt=a+").startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(("connections", "word"), [(1000, b""), (100, b"POST /gen")], ids=["nothing", "half a line"])
def test_connections_that_say_nothing_or_half_a_line_delay_nobody(server, connections, word):
    """The system keeps those that say nothing; one that stops within its request has a thread for 5 s."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    alone = max(seconds_of(server) for _ in range(3))
    with ExitStack() as silent:
        for _ in range(connections):
            silent.enter_context(socket.create_connection((host, int(port)), timeout=20)).sendall(word)
        crowded = min(seconds_of(server) for _ in range(3))
    assert crowded < 2 * alone + 1


def seconds_of(server: Server) -> float:
    """How long a picture takes."""
    start = time.monotonic()
    assert server.picture(0)[0] == 200
    return time.monotonic() - start


@pytest.mark.slow
def test_a_connection_that_says_nothing_is_closed(server):
    assert said(server) == b""


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_after_a_kill_it_draws_again_under_a_supervisor_and_no_request_hangs(compiled, demo_engines, times):
    with kills.cpp(demo_engines, compiled / "hybridstitch-server") as front:
        found = kills.endure(front, times, random.Random(0))
    assert max(found["seconds"]) < kills.PATIENCE
    assert len(found["seconds"]) == times


def test_the_example_stays_one_that_can_be_read():
    files = list((ROOT / "serving" / "cpp" / "example").iterdir())
    assert {"server.cpp", "pictures.hpp"} <= {path.name for path in files}
    for path in files:
        assert len(path.read_text().splitlines()) <= 120, path
