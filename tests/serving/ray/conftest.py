"""What the tests of Ray share: how a Ray is found in the list of processes, and many who ask at once."""

from __future__ import annotations

import base64
import io
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx2
import psutil
import pytest
from PIL import Image

from hybridstitch.serving.ray.environment import prepare_own_ray

os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # and none in the home folder
for name, seconds in {
    "QUEUE_LENGTH_RESPONSE_DEADLINE": 2,
    "PROXY_READY_CHECK_TIMEOUT": 200,
    "PROXY_HEALTH_CHECK_TIMEOUT": 200,
}.items():
    os.environ[f"RAY_SERVE_{name}_S"] = str(seconds)  # a busy machine is not a dead one
prepare_own_ray()

PROMPT = "a large striped red star left of a small plain white circle on a navy background"
QUICK = {"method": "hybrid", "num_inference_steps": 6}
KEY = "sesame"


@pytest.fixture(scope="session")
def key_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"{KEY}\n")
    return str(path)


def ask(address: str, seed: int, **body) -> httpx2.Response:
    """One picture of the prompt."""
    return httpx2.post(
        f"{address}/v1/images/generations",
        json={"prompt": PROMPT, "seed": seed, **QUICK, **body},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=300,
    )


def ask_many(address: str, seeds: range) -> list[Future[httpx2.Response]]:
    """A picture for each seed, all at once, without a wait."""
    pool = ThreadPoolExecutor(len(seeds))
    asked = [pool.submit(ask, address, seed) for seed in seeds]
    pool.shutdown(wait=False)
    return asked


def pixels_of(answer: httpx2.Response) -> bytes:
    assert answer.status_code == 200, answer.text
    png = base64.b64decode(answer.json()["data"][0]["b64_json"])
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


@pytest.fixture(scope="session")
def drawn_alone(pipe) -> Callable[[int], bytes]:
    """What the pipeline draws for `ask`'s request, by its seed."""

    def draw(seed: int) -> bytes:
        return pipe(PROMPT, seed=seed, method="hybrid", steps=6).images[0].convert("RGB").tobytes()

    return draw


def replicas_below(pid: int) -> list[psutil.Process]:
    """The processes that draw, of the Ray that a process has started."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if "ServeReplica:hybridstitch:Replica" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
