#!/usr/bin/env python3
"""Whether a model in Triton draws: asks it for the shortest picture that calls every engine. Exit code 0: it does.

Triton's own /v2/health/ready stays 200 when the process behind a model has died. This needs nothing but Python, so
that it runs inside the server's container as well:

    python3 models/demo/probe.py [http://127.0.0.1:8000] [--timeout 60]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PICTURE = {"prompt": "a picture", "seed": 0, "method": "hybrid", "steps": 4, "large_steps": 2, "hybrid_steps": 1}
PAUSE = 0.5
"""Seconds until a model whose queue is full is asked again."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code; the one line that it prints says why."""
    parser = argparse.ArgumentParser(description="Ask a model in Triton for a small picture.", allow_abbrev=False)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000", help="of Triton's HTTP port")
    parser.add_argument("--model", default=Path(__file__).resolve().parent.name, help="default: this file's folder")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: 60")
    asked = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        draw(f"{asked.url.rstrip('/')}/v2/models/{asked.model}", start + asked.timeout)
    except (OSError, HTTPException, ValueError) as error:
        print(f"{asked.model} is not healthy: {error}")
        return 1
    print(f"{asked.model} is healthy: it drew a picture in {time.monotonic() - start:.2f} s")
    return 0


def draw(model: str, deadline: float) -> None:
    """
    Args:
        model: its address. deadline: by time.monotonic().

    Raises:
        OSError, HTTPException: there is no answer. ValueError: it is no picture; the words say why.
    """
    config = json.loads(_ask(f"{model}/config", None, deadline))
    decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)
    while True:
        try:
            (_stream if decoupled else _infer)(model, deadline)
            return
        except ValueError as error:
            if "the queue is full" not in str(error) or time.monotonic() + PAUSE >= deadline:
                raise
        time.sleep(PAUSE)  # a server that draws has room again soon; one that hangs has not


def _infer(model: str, deadline: float) -> None:
    types = {str: "BYTES", int: "INT64"}
    inputs = [{"name": k, "datatype": types[type(v)], "shape": [1], "data": [v]} for k, v in PICTURE.items()]
    left = max(1, int((deadline - time.monotonic()) * 1e6))
    body = {"inputs": inputs, "outputs": [{"name": "seed"}], "parameters": {"timeout": left}}
    outputs = json.loads(_ask(f"{model}/infer", body, deadline)).get("outputs", [])
    if [output.get("data") for output in outputs] != [[PICTURE["seed"]]]:
        raise ValueError(f"the answer has no picture: {outputs!r:.200}")


def _stream(model: str, deadline: float) -> None:
    """Only by this address does Triton give several answers over HTTP, and always all of their tensors."""
    answers = _ask(f"{model}/generate_stream", PICTURE, deadline).split(b"data: ")
    for answer in answers:
        if answer.startswith(b'{"error"'):
            raise ValueError(json.loads(answer)["error"])
    if b'"image":' not in answers[-1]:
        raise ValueError("the stream ended without a picture")


def _ask(url: str, body: object, deadline: float) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=max(0.001, deadline - time.monotonic())) as answer:
            return answer.read()
    except HTTPError as error:
        told = error.read().decode(errors="replace")
        try:
            told = json.loads(told)["error"]
        except (ValueError, KeyError, TypeError):
            told = told[:200]
        raise ValueError(f"{error.code}: {told}") from None


if __name__ == "__main__":
    sys.exit(main())
