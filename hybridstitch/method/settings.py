"""The methods, and every setting of a run that is not its prompt, seed or size, written down once.

The arguments of `make_parameters`, a recipe's keys, the command line's flags and their help, a picture's metadata and
the JSON report follow from `SamplingSettings`: a new setting is one entry there, and the code in pairs/parameters.py
that uses it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal, TypedDict, get_args, get_type_hints

from .errors import HybridStitchError, shown
from .numbers import finite, whole

Method = Literal["hybrid", "large", "small", "srdiffusion", "t-stitch"]
METHODS: tuple[str, ...] = get_args(Method)
OFF = "off"


class Score(StrEnum):
    """How hard a token is: the mean over its p*p*C values, after guidance, of

    GAP: |v_large - v_small| at the last large step (one extra call of the small model);
    CHANGE: |x0 - x0 before|, between the large model's clean-image estimates of its last two full steps.
    """

    GAP = "gap"
    CHANGE = "change"


class Sketch(StrEnum):
    """What the tokens that a hybrid step does not refine take as their velocity:

    SMALL: the small model's, which looks at all tokens;
    HELD: their last one. The easy tokens take longer strides, and the small model is not called.
    """

    SMALL = "small"
    HELD = "held"


class Switch(StrEnum):
    """Whether something is done."""

    ON = "on"
    OFF = OFF


@dataclass(frozen=True)
class Setting:
    """What a setting may be.

    words: what it is called in an error. help: one line for `run --help`. metavar: its value there.
    least, most: its range, ends included unless `between`; a float has both.
    choices: the words that it takes, instead of a number. off: whether it may be "off" as well.
    methods: those that have it.
    default: where neither the run nor the recipe says anything; None where that depends on others.
    kind: int, float or str, read from the annotation.
    """

    words: str
    help: str
    metavar: str | None = None
    least: float = 0
    most: float = math.inf
    between: bool = False
    choices: tuple[str, ...] = ()
    off: bool = False
    methods: tuple[str, ...] = METHODS
    default: Any = None
    kind: type = int

    def checked(self, value: Any) -> Any:
        """The value in the setting's own type.

        Raises:
            HybridStitchError: another type, out of range, or none of the choices.
        """
        if self.off and isinstance(value, str) and value == OFF:
            return OFF
        if self.choices:
            if not isinstance(value, str) or value not in self.choices:
                raise HybridStitchError(f"unknown {self.words} {shown(value)}; known: {', '.join(self.choices)}")
            return value
        if self.kind is int:
            bounded = self.most < math.inf
            span = range(int(self.least), int(self.most) + 1 if bounded else sys.maxsize)
            return whole(self.words, value, span, None if bounded else f"of at least {span[0]}")
        number = finite(f"{self.words} (or 'off')" if self.off else self.words, value)
        fits = self.least < number < self.most if self.between else self.least <= number <= self.most
        if not fits:
            span = "between {:g} and {:g}" if self.between else "from {:g} to {:g}"
            allowed = span.format(self.least, self.most) + (", or off" if self.off else "")
            raise HybridStitchError(f"{self.words} must be {allowed}, not {number:g}")
        return number

    def parsed(self, text: str) -> Any:
        """`checked` of a text, as a flag or a form has it.

        Raises:
            HybridStitchError: as `checked`; what is no number is shown as it was written.
        """
        value: Any = text
        with suppress(ValueError):
            value = self.kind(text)
        return self.checked(value)


HYBRID, TWO_MODELS = ("hybrid",), ("hybrid", "srdiffusion", "t-stitch")


class SamplingSettings(TypedDict, total=False):
    """What a run may say of its sampling parameters; what it leaves out, or gives as None, is the recipe's."""

    steps: Annotated[int | None, Setting("steps", "denoising steps", "N", 1, 1000, default=28)]
    guidance: Annotated[
        float | None, Setting("guidance", "classifier-free guidance; up to 1: none", "SCALE", most=100, default=7.0)
    ]
    large_steps: Annotated[int | None, Setting("large steps", "steps of the large stage", "N", methods=TWO_MODELS)]
    hybrid_steps: Annotated[int | None, Setting("hybrid steps", "steps of the hybrid stage", "N", methods=HYBRID)]
    mask_ratio: Annotated[
        float | None,
        Setting("mask ratio", "share of tokens refined in it, 0 to 1", "R", most=1, methods=HYBRID, default=0.3),
    ]
    score: Annotated[
        str | None,
        Setting("score", "how the hard tokens are found", choices=tuple(Score), methods=HYBRID, default=Score.GAP),
    ]
    residual: Annotated[
        float | Literal["off"] | None,
        Setting(
            "residual exponent",
            "exponent of the carried residual; off: the paper",
            "Q|off",
            most=16,
            off=True,
            methods=("hybrid", "srdiffusion"),
            default=OFF,
        ),
    ]
    refresh_every: Annotated[
        int | None,
        Setting("refresh_every", "a full large step after N hybrid ones; 0: never", "N", methods=HYBRID, default=0),
    ]
    adaptive: Annotated[
        float | Literal["off"] | None,
        Setting(
            "adaptive threshold",
            "leave a stage when the picture changes by less; off: at fixed steps",
            "THRESHOLD|off",
            most=1,
            between=True,
            off=True,
            methods=("hybrid", "srdiffusion"),
            default=OFF,
        ),
    ]
    grid: Annotated[
        int | None,
        Setting(
            "grid", "take the noise levels from those of N steps, the early ones closer; 0: no", "N", 0, 1000, default=0
        ),
    ]
    sketch: Annotated[
        str | None,
        Setting(
            "sketch",
            "what the other tokens take: the small model's velocity, or their last one",
            choices=tuple(Sketch),
            methods=HYBRID,
            default=Sketch.SMALL,
        ),
    ]
    extrapolate: Annotated[
        float | None,
        Setting(
            "extrapolate",
            "held tokens move on along this part of their last change, 0 to 1; 0: they stay as they were",
            "E",
            most=1,
            methods=HYBRID,
            default=0.0,
        ),
    ]
    correct: Annotated[
        str | None,
        Setting(
            "correct",
            "whether a full step corrects what held tokens did since the last one",
            choices=tuple(Switch),
            methods=HYBRID,
            default=Switch.OFF,
        ),
    ]


def _read() -> dict[str, Setting]:
    settings = {}
    for name, annotation in get_type_hints(SamplingSettings, include_extras=True).items():
        kind, setting = get_args(annotation)
        settings[name] = replace(setting, kind=next(part for part in get_args(kind) if part in (int, float, str)))
    return settings


SETTINGS: dict[str, Setting] = _read()
"""Every setting by its name."""

LATER = {name: SETTINGS[name].default for name in ("extrapolate", "correct")}
"""What settings were, before there were any, in the pictures and reports that do not name them."""


def find_setting(name: str) -> Setting:
    """The setting of that name.

    Raises:
        HybridStitchError: there is none.
    """
    if name not in SETTINGS:
        raise HybridStitchError(f"unknown setting {shown(name)}; known: {', '.join(SETTINGS)}")
    return SETTINGS[name]


def parse_settings(texts: Mapping[str, str]) -> SamplingSettings:
    """Settings for `make_parameters` of texts, as a form or another language gives them.

    Raises:
        HybridStitchError: an unknown setting, or a value that it does not take.
    """
    return SamplingSettings(**{name: find_setting(name).parsed(text) for name, text in texts.items()})  # type: ignore[typeddict-item]


def settings_of_method(method: str) -> tuple[str, ...]:
    """The names of the settings that a method has."""
    return tuple(name for name, setting in SETTINGS.items() if method in setting.methods)


def settings_from(report: Mapping[str, Any]) -> SamplingSettings:
    """The settings with which `make_parameters` makes those of a report (`SamplingParameters.as_dict`) again.

    Adaptive switching becomes the fixed schedule that it found: the same picture.

    Raises:
        KeyError: what is given is no such report.
    """
    report = {**LATER, **report}
    own = {name: report[name] for name in settings_of_method(report["method"])}
    own = {name: OFF if value is None and SETTINGS[name].off else value for name, value in own.items()}
    if "adaptive" in own:
        own["adaptive"] = OFF
    return SamplingSettings(**own)  # type: ignore[typeddict-item]
