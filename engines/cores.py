"""The cores that this process may use, and whether others use them already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Load:
    """How busy the cores are.

    average: what ran or waited to run in the last minute, on the whole machine (a container sees its host's).
    processors: that this process may use, hardware threads included. machine: that there are.
    """

    average: float
    processors: int
    machine: int

    @property
    def here(self) -> float:
        """The part of the average that falls on this process's processors, if all are used evenly."""
        return self.average * self.processors / self.machine

    @property
    def is_busy(self) -> bool:
        """Whether others alone could keep all processors of this process at work."""
        return self.here >= self.processors

    def fair_threads(self, threads: int) -> int:
        """Of so many threads as many as would each have a core if all who want to run got equal shares."""
        return max(1, int(threads * self.processors / (self.here + self.processors)))

    def advice(self, threads: int) -> str | None:
        """One line where engines with so many threads would wait for others; None: they would not."""
        fewer = self.fair_threads(threads)
        if not self.is_busy or fewer >= threads:
            return None
        return (
            f"the machine is busy (load {self.average:.1f} on {self.machine} processors): an engine's threads wait for "
            f"each other, and {threads} may be slower than {fewer}; try --threads {fewer}"
        )


def current_load() -> Load | None:
    """The load of the last minute; None where the system tells none."""
    try:
        average = os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
    machine = os.cpu_count() or 1
    return Load(average, min(len(_allowed()), container_limit(), machine), machine)


def physical_cores() -> int:
    """Physical cores that this process may use: two threads of one core share its arithmetic units."""
    allowed = _allowed()
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            cores = allowed
            break
    return max(1, min(len(cores), container_limit()))


def container_limit() -> int:
    """Cores that a container's CPU quota amounts to."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup, or no limit ("max")
        return os.cpu_count() or 1


def _allowed() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
