"""What every command does when its output or its process is taken away."""

import io
import os
import signal
import subprocess
import sys

import pytest

from hybridstitch.cli import main


def test_sigterm_stops_a_command_as_ctrl_c_does(monkeypatch, capsys):
    monkeypatch.setattr(
        "hybridstitch.engines.store.inventory.inventory",
        lambda _: os.kill(os.getpid(), signal.SIGTERM) or signal.pause(),
    )
    assert main(["engines", "list"]) == 130
    assert capsys.readouterr().err == "hybridstitch-trt engines: stopped\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has /dev/full")
def test_a_report_that_cannot_be_written_gets_one_line(tmp_path):
    command = [sys.executable, "-m", "hybridstitch.cli", "engines", "list", "--json", "--dir", str(tmp_path)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "hybridstitch-trt engines: No space left on device\n"


def test_a_reader_that_has_gone_is_no_error_to_tell(tmp_path):
    command = [sys.executable, "-m", "hybridstitch.cli", "engines", "list", "--json", "--dir", str(tmp_path)]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_without_the_letters_of_a_path_shows_their_numbers(tmp_path, monkeypatch):
    folder = tmp_path / "звезда"
    folder.mkdir()
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["doctor", "--out", str(folder)]) == 0
    assert b"\\u0437" in shown.buffer.getvalue()


def test_the_command_line_is_there_before_torch_is():
    program = "import sys, hybridstitch.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
