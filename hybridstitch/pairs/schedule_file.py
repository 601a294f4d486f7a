"""Schedules in files: a method with its settings, found once (`hybridstitch-trt tune`) and used by name.

    method = "hybrid"
    steps = 20
    large_steps = 5
    mask_ratio = 0.3

    [tuned]                  # how it was found: for people; only the pair's name is checked
    pair = "demo"

The keys are `method`, which must be there, and the settings of method/settings.py; what is left out is the recipe's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import METHODS, OFF, SETTINGS, settings_from
from hybridstitch.method.whole_files import replace

from .parameters import MethodDefaults, make_parameters

FACTS = "tuned"
KEYS = ("method", *SETTINGS, FACTS)


@dataclass(frozen=True)
class ScheduleFile:
    """What a schedule's file says. settings: those of the method that it gives. tuned: facts, as they stand there."""

    path: Path
    method: str
    settings: Mapping[str, Any]
    tuned: Mapping[str, Any] = field(default_factory=dict)


def read_schedule(path: Path) -> ScheduleFile:
    """Read a schedule; whether its settings go together is seen when it is applied to a recipe.

    Raises:
        HybridStitchError: a file that cannot be read or is no TOML, an unknown key, or a value that a setting does not
            take; the message names file and key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise HybridStitchError(f"schedule {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of TOML, UTF-8, a number or brackets beyond all bounds
        raise HybridStitchError(f"schedule {path} is not TOML: {error}") from None
    for key in content:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KEYS)}"
            raise HybridStitchError(f"schedule {path}: unknown key {key!r}; {hint}")
    tuned, method = content.pop(FACTS, {}), content.pop("method", None)
    if not isinstance(tuned, dict):
        raise HybridStitchError(f"schedule {path}: tuned must be a table of facts, [tuned], not {tuned!r:.40}")
    if method is None:
        raise HybridStitchError(f"schedule {path}: key 'method' is missing; one of {', '.join(METHODS)}")
    if method not in METHODS:
        raise HybridStitchError(f"schedule {path}: unknown method {method!r:.40}; known: {', '.join(METHODS)}")
    try:
        settings = {name: SETTINGS[name].checked(value) for name, value in content.items()}
    except HybridStitchError as error:
        raise HybridStitchError(f"schedule {path}: {error}") from None
    return ScheduleFile(path, method, settings, tuned)


def scheduled_settings(schedule: ScheduleFile, recipe: MethodDefaults, pair: str, argument: str) -> dict[str, Any]:
    """All settings of the schedule's method: its own and, for the rest, the recipe's.

    Args:
        pair: the recipe's name. argument: what names it on the command line.

    Raises:
        HybridStitchError: a schedule that was tuned for another pair, or settings that do not go together.
    """
    tuned_for = schedule.tuned.get("pair", pair)
    if tuned_for != pair:
        raise HybridStitchError(
            f"schedule {schedule.path} was tuned for pair {tuned_for!r:.100}, not for {pair!r}; tune one for it: "
            f"hybridstitch-trt tune --pair {argument or pair}"
        )
    try:
        parameters = make_parameters(recipe, schedule.method, **schedule.settings)
    except HybridStitchError as error:
        raise HybridStitchError(f"schedule {schedule.path}: {error}") from None
    settings: dict[str, Any] = {**settings_from(parameters.as_dict())}
    if parameters.adaptive is not None:  # the stages that a run without it has are still the recipe's
        given: dict[str, Any] = {**schedule.settings, "adaptive": OFF}
        fixed = make_parameters(recipe, schedule.method, **given)
        settings = {**settings_from(fixed.as_dict()), "adaptive": parameters.adaptive}
    return settings


def write_schedule(schedule: ScheduleFile, comment: str = "") -> None:
    """Write `schedule.path`, whole or not at all. comment: stands above it.

    Raises:
        HybridStitchError: it cannot be written.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"{name} = {_toml(value)}" for name, value in {"method": schedule.method, **schedule.settings}.items()]
    if schedule.tuned:
        lines += ["", f"[{FACTS}]", *(f"{_key(name)} = {_toml(value)}" for name, value in schedule.tuned.items())]
    try:
        replace(schedule.path, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise HybridStitchError(f"cannot write {schedule.path}: {error.strerror or error}") from None


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(name))} = {_toml(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    marks = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(marks.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in str(value)) + '"'
