"""kill -9 at random moments on each front: how soon it draws again by itself, and that no request is left unanswered.

    python -m benchmarks.kills             50 kills of each front: http, cpp, triton

HTTP is kept by `serve --restart`; C++ and Triton by a loop that starts what ended again a tenth of a second later, as
systemd's Restart=always does. Of Triton either the server is killed or the process behind the model, in turns.
Three requests are under way at each kill, and one comes right after it: each has the same picture, byte for byte, or is
told that it has none (a closed or refused connection, 503). Whenever a front says that it is ready, it must draw.
Needs `make engines`, `make cpp` and `make triton-server`.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console

from benchmarks.fronts import ROOT, free_port
from benchmarks.machine import save
from hybridstitch.cli import main as cli
from hybridstitch.serving.triton.probe import draw

PATIENCE = 120.0
"""Seconds within which a front draws again, and a request has its answer, on a slow machine with others on it."""
STAR: dict[str, Any] = {"prompt": "a star", "seed": 7, "method": "small"}
STEPS = 12
CLIENTS = 3
TRITON = ROOT / "build" / "triton"


@dataclass(frozen=True)
class Kept:
    """A front that something keeps alive.

    ask: a picture's bytes; None: it was told that there is none. ready: what the front says of itself.
    victims: the processes, of which one is killed; none while there are none. port: of its HTTP, on 127.0.0.1.
    """

    ask: Callable[[], bytes | None]
    ready: Callable[[], bool]
    victims: Callable[[], list[int]]
    port: int


def endure(front: Kept, times: int, moments: random.Random) -> dict[str, Any]:
    """Kill it at random moments.

    Returns:
        Seconds from each kill to the next picture, and how many requests there were and were drawn.

    Raises:
        RuntimeError: another picture, a request without an answer, or a front that says that it is ready and is not.
    """
    await_ready(front, time.monotonic())
    picture = front.ask()
    seconds: list[float] = []
    answers: list[bytes | None] = []
    with ThreadPoolExecutor(CLIENTS + 1) as clients:
        for number in range(times):
            asked = [clients.submit(front.ask) for _ in range(CLIENTS)]
            time.sleep(moments.uniform(0, 1.0))
            victims = front.victims()
            os.kill(victims[number % len(victims)], signal.SIGKILL)
            killed = time.monotonic()
            asked.append(clients.submit(front.ask))
            await_ready(front, killed)
            if (again := front.ask()) is None:
                raise RuntimeError("it says that it is ready, and does not draw")
            seconds.append(time.monotonic() - killed)
            answers += [again, *(each.result(PATIENCE) for each in asked)]
    if picture is None or set(answers) - {picture, None}:
        raise RuntimeError("another picture than before")
    drawn = sum(answer is not None for answer in answers)
    return {"kills": times, "seconds": [round(each, 2) for each in seconds], "asked": len(answers), "drawn": drawn}


def await_ready(front: Kept, since: float) -> None:
    """Wait until it says that it is ready, up to `PATIENCE` from then on."""
    while not front.ready():
        if time.monotonic() > since + PATIENCE:
            raise RuntimeError(f"not ready within {PATIENCE:g} s")
        time.sleep(0.05)


class Supervised:
    """A command that is started again whenever it ends, and ends by SIGTERM with `end`. process: the one of now."""

    def __init__(self, command: Sequence[object]) -> None:
        self._command, self._over = [str(word) for word in command], threading.Event()
        self.process = self._start()
        self._loop = threading.Thread(target=self._keep)
        self._loop.start()

    def end(self) -> None:
        self._over.set()
        self.process.terminate()
        self._loop.join(PATIENCE)
        self.process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _keep(self) -> None:
        while True:
            self.process.wait()
            if self._over.wait(0.1):
                return
            self.process = self._start()


@contextmanager
def http(engines: Path) -> Iterator[Kept]:
    """`hybridstitch-trt serve --restart`, whose worker is killed."""
    port = free_port()
    command = [sys.executable, "-m", "hybridstitch.cli", "serve", "--restart", "--threads", "1"]
    body = json.dumps({**STAR, "num_inference_steps": STEPS}).encode()

    def ask() -> bytes | None:
        answer = answered(f"http://127.0.0.1:{port}/v1/images/generations", body, "application/json")
        return answer and base64.b64decode(json.loads(answer)["data"][0]["b64_json"])

    with supervised([*command, "--engines", engines, "--port", port]) as kept:
        yield Kept(ask, lambda: says_ready(f"http://127.0.0.1:{port}/ready"), lambda: children(kept.process.pid), port)


@contextmanager
def cpp(engines: Path, server: Path = ROOT / "build" / "cpp" / "hybridstitch-server") -> Iterator[Kept]:
    """The example server of serving/cpp."""
    port = free_port()
    command = [server, "--venv", sys.prefix, "--threads", "1", "--engines", engines, "--port", port]
    body = urllib.parse.urlencode({**STAR, "steps": STEPS}).encode()

    def ask() -> bytes | None:
        return answered(f"http://127.0.0.1:{port}/generate", body, "application/x-www-form-urlencoded")

    with supervised(command) as kept:
        yield Kept(ask, lambda: says_ready(f"http://127.0.0.1:{port}/ready"), lambda: [kept.process.pid], port)


@contextmanager
def triton(engines: Path) -> Iterator[Kept]:
    """A Triton server that ends with its model (`--end-server`). Whether it is ready its probe says, by a picture."""
    port, grpc = free_port(), free_port()
    address = f"http://127.0.0.1:{port}/v2/models/demo"
    given = [
        {"name": name, "datatype": "BYTES" if isinstance(value, str) else "INT64", "shape": [1], "data": [value]}
        for name, value in {**STAR, "steps": STEPS}.items()
    ]
    body = json.dumps({"inputs": given, "outputs": [{"name": "image"}]}).encode()

    def ask() -> bytes | None:
        answer = answered(f"{address}/infer", body, "application/json", refusals=(404, 500, 503))
        return answer and bytes(json.loads(answer)["outputs"][0]["data"])

    def ready() -> bool:
        try:
            draw(address, time.monotonic() + PATIENCE)
        except (OSError, HTTPException, ValueError):
            return False
        return True

    def victims() -> list[int]:
        stubs = [child for child in children(kept.process.pid) if "python_backend_stub" in words_of(child)]
        return [*stubs, kept.process.pid]

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        arguments = ["--engines", str(engines), "--out", folder, "--environment", str(TRITON / "model")]
        if cli(["triton", "--pair", "demo", "--threads", "1", "--end-server", *arguments]):
            raise RuntimeError("the model could not be written")
        command = [TRITON / "server" / "tritonserver", f"--model-repository={folder}", "--allow-metrics=false"]
        command += ["--http-address=127.0.0.1", f"--http-port={port}", "--grpc-address=127.0.0.1"]
        with supervised([*command, f"--grpc-port={grpc}"]) as kept:
            yield Kept(ask, ready, victims, port)


@contextmanager
def supervised(command: Sequence[object]) -> Iterator[Supervised]:
    kept = Supervised(command)
    try:
        yield kept
    finally:
        kept.end()


def answered(address: str, body: bytes, kind: str, refusals: tuple[int, ...] = (429, 503)) -> bytes | None:
    """The answer; None: one of the refusals, or a connection that was closed or refused.

    Raises:
        RuntimeError: no answer in time. HTTPError: another status.
    """
    try:
        with urlopen(Request(address, body, {"Content-Type": kind}), timeout=PATIENCE) as answer:
            return answer.read()
    except HTTPError as error:
        if error.code in refusals:
            return None
        raise
    except TimeoutError:
        raise RuntimeError("a request has no answer") from None
    except (URLError, ConnectionError, HTTPException) as error:
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise RuntimeError("a request has no answer") from None
        return None


def says_ready(address: str) -> bool:
    try:
        with urlopen(address, timeout=PATIENCE) as answer:
            return answer.status == 200
    except (OSError, HTTPException):
        return False


def children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def words_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")


FRONTS: dict[str, Callable[[Path], AbstractContextManager[Kept]]] = {"http": http, "cpp": cpp, "triton": triton}


def parser(document: str | None, result: str) -> argparse.ArgumentParser:
    """The flags of a script that tries each front. result: the name of the file that it keeps."""
    flags = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--engines", type=Path, default=Path("build/demo/onnxruntime"))
    flags.add_argument("--fronts", nargs="+", choices=FRONTS, default=list(FRONTS))
    flags.add_argument("--save", action="store_true", help=f"write benchmarks/results/{result}.json")
    return flags


def main() -> None:
    flags = parser(__doc__, "kills")
    flags.add_argument("--times", type=int, default=50)
    options = flags.parse_args()
    rows, console = {}, Console()
    for name in options.fronts:
        with FRONTS[name](options.engines.absolute()) as front:
            rows[name] = row = endure(front, options.times, random.Random(0))
        times = f"median {median(row['seconds']):.1f} s, worst {max(row['seconds']):.1f} s"
        console.print(
            f"{name}: {row['kills']} kills, draws again after {times}; {row['drawn']} of {row['asked']} drawn"
        )
    if options.save:
        save("kills", "benchmarks.kills", {"fronts": rows})


if __name__ == "__main__":
    main()
