"""The ways into a pair that a load test compares: in this process, through C++, and over HTTP. All draw the same."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from hybridstitch.serving import QueueFull, Service

ROOT = Path(__file__).parents[1]
START_SECONDS = 180


@dataclass(frozen=True)
class Wanted:
    """One picture of a load test. settings: by their names in `SamplingSettings`, and the method."""

    prompt: str
    seed: int
    size: str
    settings: tuple[tuple[str, Any], ...]


class Front(Protocol):
    """A way in. process: whose memory is watched."""

    process: int

    def draw(self, request: Wanted) -> bytes | None:
        """RGB bytes, or None where the front said that it has no room. Anything else is raised."""
        ...


@dataclass
class Embedded:
    """The embedding API, in this process."""

    service: Service
    process: int

    def draw(self, request: Wanted) -> bytes | None:
        settings: dict[str, Any] = dict(request.settings)
        resolved = self.service.resolve(request.prompt, seed=request.seed, size=request.size, **settings)
        try:
            return self.service.generate(resolved).image.tobytes()
        except QueueFull:
            return None


@dataclass
class Cpp:
    """The example server of serving/cpp."""

    address: str
    process: int

    def draw(self, request: Wanted) -> bytes | None:
        fields = {"prompt": request.prompt, "seed": request.seed, "size": request.size, **dict(request.settings)}
        body = _post(f"{self.address}/generate", urllib.parse.urlencode(fields).encode(), {}, full=503)
        return body and Image.open(io.BytesIO(body)).convert("RGB").tobytes()


@dataclass
class Http:
    """`hybridstitch-trt serve`."""

    address: str
    process: int

    def draw(self, request: Wanted) -> bytes | None:
        settings = dict(request.settings)
        fields = {
            "prompt": request.prompt,
            "seed": request.seed,
            "size": request.size,
            "num_inference_steps": settings.pop("steps"),
            **settings,
        }
        headers = {"Content-Type": "application/json"}
        body = _post(f"{self.address}/v1/images/generations", json.dumps(fields).encode(), headers, full=429)
        if body is None:
            return None
        picture = base64.b64decode(json.loads(body)["data"][0]["b64_json"])
        return Image.open(io.BytesIO(picture)).convert("RGB").tobytes()


@contextmanager
def embedded(engines: Path, *, max_queue: int, max_batch: int | None = None) -> Iterator[Front]:
    """The embedding API."""
    with Service.load("demo", engines=engines, max_queue=max_queue, max_batch=max_batch) as service:
        yield Embedded(service, os.getpid())


@contextmanager
def cpp(engines: Path, *, max_queue: int) -> Iterator[Front]:
    """The C++ server, which `make cpp` has built."""
    command = [ROOT / "build" / "cpp" / "hybridstitch-server", "--venv", sys.prefix]
    with _server([*command, "--engines", engines, "--max-queue", max_queue], "/ready") as (address, process):
        yield Cpp(address, process)


@contextmanager
def http(engines: Path, *, max_queue: int) -> Iterator[Front]:
    """`hybridstitch-trt serve`."""
    command = [sys.executable, "-m", "hybridstitch.cli", "serve", "--engines", engines]
    with _server([*command, "--max-queue", max_queue], "/ready") as (address, process):
        yield Http(address, process)


@contextmanager
def _server(command: Sequence[object], ready: str) -> Iterator[tuple[str, int]]:
    """A server on a free port, once it is ready; it is told to end by SIGTERM."""
    port = free_port()
    words = [str(word) for word in (*command, "--port", port)]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(f"{address}{ready}", child)
        yield address, child.pid
    finally:
        child.terminate()
        if child.wait(60):
            raise RuntimeError(f"{words[0]} ended with exit code {child.returncode}")


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _await(address: str, child: subprocess.Popen[bytes]) -> None:
    for _ in range(START_SECONDS * 10):
        if child.poll() is not None:
            raise RuntimeError(f"the server ended before it was ready: exit code {child.returncode}")
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server was not ready within {START_SECONDS} s")


def _post(address: str, body: bytes, headers: dict[str, str], *, full: int) -> bytes | None:
    """The answer, or None where its status is the one that says that there is no room."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=300) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        if error.code == full:
            return None
        raise
