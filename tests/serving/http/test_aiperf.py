"""NVIDIA's own load generator, in a virtual environment of its own, takes us for an images server."""

import subprocess

import pytest

from benchmarks import aiperf
from benchmarks.fronts import ROOT, Http, http


@pytest.mark.slow
def test_aiperf_has_every_request_of_32_clients_answered(demo_engines):
    try:
        program = aiperf.install(ROOT / "build" / "aiperf")
    except subprocess.CalledProcessError:
        pytest.skip(f"no package index has aiperf {aiperf.VERSION}")
    with http(demo_engines, max_queue=32) as state:
        assert isinstance(state, Http)
        extra = {**aiperf.EXTRA, "num_inference_steps": 1, "method": "small"}
        found = aiperf.profile(program, state.address, requests=48, clients=32, extra=extra)
    assert found["request_count"]["avg"] == 48
    assert not found.get("error_request_count", {}).get("avg")
    assert found["request_latency"]["p99"] > 0
