"""What ends a server whose model died, tried on processes that stand for both."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hybridstitch.serving.process_exit import LOST_EXIT_CODE

PATIENCE = 20


@contextmanager
def server(*, ignores_signals: bool = False) -> Iterator[subprocess.Popen]:
    """Something that runs until it is ended."""
    trap = "trap '' TERM; " if ignores_signals else ""
    process = subprocess.Popen(["/bin/sh", "-c", f"{trap}echo there; while :; do sleep 0.1; done"], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def model(server: int, ends_by: str) -> int:
    """Run a model's process, which holds a lifeline and ends in some way; its exit code."""
    program = textwrap.dedent(f"""
        import os, signal, sys
        from hybridstitch.serving.triton.lifeline import hold_lifeline
        release = hold_lifeline({server}, grace=0.2)
        {ends_by}
    """)
    return subprocess.run([sys.executable, "-c", program], check=False).returncode


@pytest.mark.parametrize(("ignores_signals", "ended_by"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_a_server_whose_model_is_killed_ends_also_where_it_ignores_a_signal(ignores_signals, ended_by):
    with server(ignores_signals=ignores_signals) as process:
        assert model(process.pid, "os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
        assert process.wait(PATIENCE) == -ended_by


@pytest.mark.parametrize("sends", ["print", "lambda: 1 / 0", "lambda: time.sleep(60)"], ids=["sends", "fails", "hangs"])
def test_a_model_that_can_never_draw_again_ends_with_its_code_and_the_server_with_it(sends):
    ends = f"import time; from hybridstitch.serving.triton import lifeline; lifeline.LAST_WORDS = 0.2; \
lifeline.end_when_done({sends}, 'the device is lost')"
    with server() as process:
        assert model(process.pid, ends) == LOST_EXIT_CODE
        assert process.wait(PATIENCE) == -signal.SIGTERM


def test_a_server_whose_model_ends_as_it_should_goes_on():
    with server() as process:
        assert model(process.pid, "release()") == 0
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)


def test_a_model_whose_server_is_killed_ends():
    program = textwrap.dedent("""
        import os, signal, time
        if os.fork() == 0:
            from hybridstitch.serving.triton.lifeline import end_with_server
            end_with_server(every=0.05)
            print(os.getpid(), flush=True)
            while True:
                time.sleep(0.05)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert int(server.stdout.readline()) > 0
        server.kill()
        assert server.stdout.read() == ""  # its end comes when nothing holds it any more
