"""No process of ours reports to ONNX Runtime's makers, or leaves anything in the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "hybridstitch.cli"]
HOME_OF_CACHES = ("HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")


def run(command: list[str], home: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user whose home folder is `home`, with no setting of this process's telemetry."""
    ours = {"ORT_DISABLE_TELEMETRY", *HOME_OF_CACHES}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"HOME": str(home), **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def drawn(demo_engines: Path, home: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    how = ["--engines", str(demo_engines), "--method", "small", "--steps", "1", "--threads", "1", "--out", str(folder)]
    return run([*COMMAND, "run", "--prompt", "a large red star on a navy background", *how], home, folder, **variables)


def test_a_run_writes_nothing_into_the_home_folder(demo_engines, tmp_path):
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    done = drawn(demo_engines, home, out)
    assert done.returncode == 0, done.stderr
    assert list(out.glob("*.png"))
    assert list(home.rglob("*")) == []


def test_a_home_folder_that_cannot_be_written_is_not_worth_a_word(demo_engines, tmp_path):
    home, out = tmp_path / "home", tmp_path / "out"
    home.write_text("a file, in which nobody can make a folder")
    out.mkdir()
    done = drawn(demo_engines, home, out)
    assert done.returncode == 0, done.stderr
    assert "telemetry" not in done.stderr.lower()
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("module", ["hybridstitch", "hybridstitch.serving", "hybridstitch.engines.open"])
def test_telemetry_is_off_before_any_module_of_ours_can_import_onnx_runtime(module, tmp_path):
    program = f"import sys, os, {module}; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    assert run([sys.executable, "-c", program], tmp_path, tmp_path).stdout.split() == ["1", "False"]


def test_a_user_who_turns_telemetry_on_keeps_it(tmp_path):
    program = "import os, hybridstitch; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run([sys.executable, "-c", program], tmp_path, tmp_path, ORT_DISABLE_TELEMETRY="0").stdout.strip() == "0"
