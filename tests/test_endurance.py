"""The endurance run tells a service that stays as it is from one that does not; a stand-in draws for the service."""

from __future__ import annotations

import json
import os
import time

import pytest

from benchmarks import endurance, machine
from benchmarks.fronts import Wanted

PICTURE_SECONDS = 0.01


class StandIn:
    """A front that draws a seed's picture in a hundredth of a second; slower: seconds that each takes longer."""

    def __init__(self, *, slower: float = 0.0, wrong_after: int | None = None, silent: bool = False) -> None:
        self.process, self.drawn = os.getpid(), 0
        self._slower, self._wrong_after, self._silent = slower, wrong_after, silent

    def draw(self, request: Wanted) -> bytes | None:
        self.drawn += 1
        time.sleep(PICTURE_SECONDS + self._slower * self.drawn)
        if self._silent:
            return None
        wrong = self._wrong_after is not None and self.drawn > self._wrong_after
        return b"another" if wrong else bytes([request.seed])


def leaking(process: int, memory: list[float] = [100.0]) -> float:  # noqa: B006
    memory[0] += 2.0
    return memory[0]


def test_a_service_that_stays_as_it_is_is_flat():
    windows = endurance.endure(StandIn(), seconds=2, clients=2, windows=10)
    assert [window["minutes"] for window in windows] == sorted(window["minutes"] for window in windows)
    assert all(0.01 <= window["p50"] <= window["p95"] for window in windows)
    assert min(window["drawn"] for window in windows) > 1
    assert endurance.verdict(windows)["memory_mib"]["flat"]


def test_memory_that_grows_is_told():
    windows = endurance.endure(StandIn(), seconds=1, clients=1, windows=10, memory=leaking)
    judged = endurance.verdict(windows)
    assert not judged["memory_mib"]["flat"]
    assert judged["memory_mib"]["growth"] == pytest.approx(16, abs=3)
    assert not judged["flat"]


def test_pictures_that_take_ever_longer_are_told():
    judged = endurance.verdict(endurance.endure(StandIn(slower=0.001), seconds=2, clients=1, windows=8))
    assert not judged["p50"]["flat"]
    assert judged["p50"]["share"] > 0.1


@pytest.mark.parametrize(("latency", "flat"), [(1.0, True), (1.05, True), (1.3, False)])
def test_the_verdict_is_by_the_growth_from_begin_to_end_and_one_slow_window_does_not_change_it(latency, flat):
    windows = [
        {"minutes": minute, "memory_mib": 500.0, "p50": 1 + (latency - 1) * minute / 60} for minute in range(1, 61)
    ]
    windows[30]["p50"] = 9.0
    assert endurance.verdict(windows)["p50"]["flat"] == flat


def test_what_the_first_tenth_takes_to_warm_up_does_not_count():
    windows = [{"minutes": minute, "memory_mib": 100.0 * min(minute, 4), "p50": 1.0} for minute in range(1, 41)]
    assert endurance.verdict(windows)["flat"]


def test_another_picture_than_before_ends_it():
    with pytest.raises(RuntimeError, match="another picture than before of "):
        endurance.endure(StandIn(wrong_after=20), seconds=60, clients=2, windows=2)


def test_a_service_that_draws_nothing_ends_it(monkeypatch):
    monkeypatch.setattr(endurance, "PAUSE", 0.01)
    with pytest.raises(RuntimeError, match=r"no picture within 0\.2 s: give it more minutes"):
        endurance.endure(StandIn(silent=True), seconds=0.4, clients=1, windows=2)


def test_the_run_prints_and_keeps_its_verdict_and_its_exit_code_says_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(endurance, "WINDOWS", 8)
    monkeypatch.setattr(endurance, "Http", lambda url, pid: StandIn(slower=0.001))
    monkeypatch.setattr(
        "sys.argv", ["endurance.py", "--url", "http://x", "--pid", str(os.getpid()), "--minutes", "0.02", "--save"]
    )
    with pytest.raises(SystemExit) as ended:
        endurance.main()
    assert ended.value.code == 1
    assert "latency: NOT flat: +" in capsys.readouterr().out
    kept = json.loads((tmp_path / "endurance.json").read_text())
    assert len(kept["windows"]) == 8
    assert kept["verdict"]["flat"] is False
    assert "benchmarks.endurance --url http://x" in kept["command"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "http://x"], "--url and --pid go together"),
        (["--minutes", "0"], "--minutes must be over 0"),
        (["--clients", "0"], "--clients at least 1"),
    ],
)
def test_what_does_not_fit_is_told(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr("sys.argv", ["endurance.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        endurance.main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
