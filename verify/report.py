"""What a verification found, for people and machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .call_cases import CallCase
from .compare import Bounds, Comparison
from .engine import CaseReport
from .stages import StageReport


@dataclass(frozen=True)
class ProfileReport:
    """The cases of one component that one profile runs. bounds: what each output of each call must keep to."""

    component: str
    profile: str
    dtype: str
    bounds: Bounds
    cases: tuple[CaseReport, ...]

    @property
    def failures(self) -> list[str]:
        return [line for case in self.cases for line in case.failures]

    @property
    def seconds(self) -> float:
        """Of the engine's calls."""
        return sum(case.seconds for case in self.cases)

    @property
    def worst(self) -> tuple[CallCase, Comparison] | None:
        """The output that comes nearest to its bounds, or goes farthest beyond, and its case."""
        pairs = [(report.case, worst) for report in self.cases if (worst := report.worst(self.bounds)) is not None]
        return max(pairs, key=lambda pair: pair[1].severity(self.bounds), default=None)

    def as_dict(self) -> dict[str, Any]:
        worst = self.worst
        return {
            "component": self.component,
            "profile": self.profile,
            "dtype": self.dtype,
            "ok": not self.failures,
            "seconds": self.seconds,
            "bounds": asdict(self.bounds),
            "worst": _worst_as_dict(*worst) if worst else None,
            "cases": [
                {
                    "place": report.case.place,
                    "lengths": dict(report.case.lengths),
                    "seconds": report.seconds,
                    "problem": report.problem,
                    "saved": str(report.saved) if report.saved else None,
                    "outputs": [asdict(comparison) for comparison in report.comparisons],
                }
                for report in self.cases
            ],
        }


@dataclass(frozen=True)
class Report:
    """A verification of one built pair.

    rebuild: the command that builds the engines. stages: empty where only some components were asked for. unsaved: why
    not every call that is off was saved, where that was asked for.
    """

    pair: str
    backend: str
    device: str
    folder: Path
    version: str
    quick: bool
    seed: int
    rebuild: str
    profiles: tuple[ProfileReport, ...]
    stages: tuple[StageReport, ...]
    seconds: float
    unsaved: str | None = None

    @property
    def failures(self) -> list[str]:
        """One line for each thing that is off."""
        return [line for part in (*self.profiles, *self.stages) for line in part.failures]

    @property
    def saved(self) -> list[Path]:
        """The folders of the calls that were saved."""
        cases = (case for profile in self.profiles for case in profile.cases)
        return [case.saved for case in cases if case.saved is not None]

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def advice(self) -> str | None:
        """What to do about the failures, where their pattern tells."""
        if self.profiles and all(profile.failures for profile in self.profiles):
            return (
                f"everything is off: the engines are of other weights than the checkpoint. Build them: {self.rebuild}"
            )
        return None

    @property
    def worst(self) -> tuple[ProfileReport, CallCase, Comparison] | None:
        """The call that uses up most of its bounds."""
        rows = [(profile, *profile.worst) for profile in self.profiles if profile.worst is not None]
        return max(rows, key=lambda row: row[2].severity(row[0].bounds), default=None)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        worst = self.worst
        return {
            "pair": self.pair,
            "backend": self.backend,
            "device": self.device,
            "folder": str(self.folder),
            "version": self.version,
            "quick": self.quick,
            "seed": self.seed,
            "ok": self.ok,
            "seconds": self.seconds,
            "failures": self.failures,
            "advice": self.advice,
            "unsaved": self.unsaved,
            "worst": worst
            and {"component": worst[0].component, "profile": worst[0].profile, **_worst_as_dict(*worst[1:])},
            "profiles": [profile.as_dict() for profile in self.profiles],
            "stages": [{"ok": not stage.failures, **asdict(stage)} for stage in self.stages],
        }


def _worst_as_dict(case: CallCase, comparison: Comparison) -> dict[str, Any]:
    return {"place": case.place, "lengths": dict(case.lengths), **asdict(comparison)}
