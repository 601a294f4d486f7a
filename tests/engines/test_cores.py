"""How busy the cores are, and how many threads that leaves."""

import os

import pytest

from hybridstitch.engines import cores
from hybridstitch.engines.cores import Load, current_load


@pytest.mark.parametrize(
    ("load", "threads", "fewer"),
    [
        (Load(5.0, 2, 2), 2, 1),
        (Load(2.0, 2, 2), 2, 1),
        (Load(1.9, 2, 2), 2, None),
        (Load(5.0, 1, 2), 1, None),  # one thread waits for no other
        (Load(16.0, 16, 16), 16, 8),
        (Load(5.0, 2, 64), 2, None),  # a container of a large machine: the others have cores of their own
        (Load(100.0, 4, 64), 4, 1),
    ],
)
def test_fewer_threads_are_advised_where_others_keep_all_cores_at_work(load, threads, fewer):
    advice = load.advice(threads)
    assert (advice is None) == (fewer is None)
    if advice is not None:
        assert f"load {load.average:.1f} on {load.machine} processors" in advice
        assert advice.endswith(f"{threads} may be slower than {fewer}; try --threads {fewer}")
        assert "\n" not in advice


def test_the_load_is_compared_with_the_cores_that_affinity_and_quota_leave(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 1.0, 1.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cores, "_allowed", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "container_limit", lambda: 8)
    assert current_load() == Load(3.0, 4, 8)
    monkeypatch.setattr(cores, "container_limit", lambda: 2)
    assert current_load() == Load(3.0, 2, 8)


def test_a_system_that_tells_no_load_is_fine(monkeypatch):
    def none():
        raise OSError("load average is not known")

    monkeypatch.setattr(os, "getloadavg", none)
    assert current_load() is None
