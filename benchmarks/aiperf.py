"""NVIDIA's AIPerf, a client that knows nothing of us, against `hybridstitch-trt serve`.

    python -m benchmarks.aiperf             64 requests from 32 clients at once

AIPerf pins packages that this project has in other versions, so it gets a virtual environment of its own, build/aiperf.
Source: https://github.com/ai-dynamo/aiperf
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any

from benchmarks.fronts import ROOT, Http, http
from benchmarks.machine import save
from hybridstitch.evaluation.cases import DEMO_CAPTIONS

VERSION = "0.13.0"
EXTRA = {"num_inference_steps": 6, "size": "128x128", "response_format": "b64_json"}
METRICS = ("request_throughput", "request_latency", "request_count", "error_request_count")


def install(folder: Path) -> Path:
    """The program, installed into a virtual environment where it is not there yet.

    Raises:
        subprocess.CalledProcessError: no package index has it.
    """
    program = folder / "bin" / "aiperf"
    if not program.is_file():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", f"aiperf=={VERSION}"], check=True)
    return program


def profile(program: Path, address: str, requests: int, clients: int, extra: dict[str, Any]) -> dict[str, Any]:
    """AIPerf's report of that many requests.

    Raises:
        RuntimeError: AIPerf failed, which it does when no request succeeded; what it said last.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"text": caption}) + "\n" for caption in DEMO_CAPTIONS))
        command = [program, "profile", "--endpoint-type", "image-generation", "--url", address, "--model", "demo"]
        command += ["--input-file", prompts, "--custom-dataset-type", "single_turn", "--ui", "none"]
        command += ["--tokenizer", ROOT / "hybridstitch" / "pairs" / "demo" / "large" / "tokenizer"]
        command += ["--concurrency", clients, "--request-count", requests, "--artifact-dir", folder / "out"]
        for key, value in extra.items():
            command += ["--extra-inputs", f"{key}:{value}"]
        words = [str(word) for word in command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800)
        reports = list((folder / "out").rglob("profile_export_aiperf.json"))
        if done.returncode or not reports:
            raise RuntimeError(f"aiperf ended with exit code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        report = json.loads(reports[0].read_text())
    return {metric: report[metric] for metric in METRICS if report.get(metric) is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=Path, default=Path("build/demo/onnxruntime"))
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/serving-aiperf.json")
    options = parser.parse_args()
    program = install(ROOT / "build" / "aiperf")
    with http(options.engines, max_queue=options.clients) as front:
        assert isinstance(front, Http)
        report = profile(program, front.address, options.requests, options.clients, EXTRA)
    measured = {"aiperf": VERSION, "requests": options.requests, "clients": options.clients, **EXTRA, "report": report}
    if options.save:
        save("serving-aiperf", "benchmarks.aiperf", measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
