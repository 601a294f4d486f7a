"""An export at the width of Stable Diffusion 3.5 large is quick and small: weights are neither read nor written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_export_at_sd35_s_width_takes_little_time_and_memory_and_writes_almost_nothing():
    """Four of its 38 layers, 0.8 G parameters: 1.6 GB of weights, none of which is loaded."""
    command = [sys.executable, "-m", "benchmarks.export_sd35", "--layers", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    weights_gb = 2 * figures["parameters_g"]
    assert figures["peak_memory_gb"] < 0.5 * weights_gb, figures
    assert figures["written_mb"] < 3, figures
    assert figures["cpu_seconds"] < 120, figures
