"""The bar of long work: whole numbers with their unit, in a line of a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest

from hybridstitch.cli.progress import showing
from hybridstitch.method.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def last_line(monkeypatch):
    """Of the bar, in a terminal of 80 columns, after some reports."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")

    def shown(*reports: Progress, unit: str = "MB") -> str:
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        with showing("export", unit) as show:
            for now in reports:
                show(now)
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).replace("\r", "\n").split("\n")
        line = next(line for line in reversed(lines) if line.strip())
        assert len(line) <= 80
        return line

    return shown


def test_what_is_done_and_how_much_of_how_much_stand_in_one_line(last_line):
    line = last_line(Progress("export: large: converting weights", 207, 1734))
    assert "export: large: converting weights" in line
    assert " 207/1734 MB" in line


def test_a_long_name_is_cut_and_the_numbers_are_not(last_line):
    line = last_line(Progress(f"export: large: copying {'model-' * 20}.safetensors", 15311, 16957))
    assert "export: large: copying model-" in line
    assert "…" in line
    assert "15311/16957 MB" in line


def test_the_amount_of_what_went_before_is_not_shown_for_what_has_none(last_line):
    line = last_line(Progress("copying", 957, 957), Progress("tracing"))
    assert "tracing" in line
    assert "MB" not in line
    assert "957" not in line


def test_a_name_is_shown_as_it_is(last_line):
    assert "reading [bold]x[/].safetensors" in last_line(Progress("reading [bold]x[/].safetensors", 1, 2))
