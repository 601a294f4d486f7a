"""Keeps a figure's JSON, with machine, versions and command, where the documents point to."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridstitch.evaluation.speed.machine import circumstances

RESULTS = Path(__file__).parent / "results"


def save(name: str, module: str, measured: Mapping[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {**circumstances(["python", "-m", module, *sys.argv[1:]]), **measured}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
