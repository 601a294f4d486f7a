"""The options of a service: each with its default, its range and its words, written down once.

Python, the command line, HTTP, Ray Serve, Triton and C++ read them here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

from hybridstitch.method.errors import HybridStitchError, shown
from hybridstitch.method.numbers import THREADS, finite, whole

MOST_BATCH = 64
"""Pictures of a batch that a service may be asked to draw together."""
MOST_QUEUED = 100_000


@dataclass(frozen=True)
class Option:
    """How one option is read.

    kind: the type that a text is read as. check: takes the option's name and a value, and returns the value in its own
    type or raises HybridStitchError. help: one line for `--help`. metavar: its value there.
    """

    kind: type
    check: Callable[[str, Any], Any]
    help: str
    metavar: str | None = None

    def parsed(self, name: str, text: Any) -> Any:
        """The value of a text, as a flag, a configuration file or another language gives it.

        Raises:
            HybridStitchError: as `check`; a text that is no number is shown as it was written.
        """
        value = text
        if isinstance(text, str) and self.kind is not str:
            with suppress(ValueError, KeyError):
                value = {"true": True, "false": False}[text.lower()] if self.kind is bool else self.kind(text)
        return self.check(name, value)


def _whole(span: range) -> Callable[[str, Any], int]:
    return partial(whole, span=span)


def _seconds(name: str, value: Any, *, least: float) -> float:
    number = finite(name, value)
    if number < least:
        raise HybridStitchError(f"{name} must be at least {least:g} seconds, not {number:g}")
    return number


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise HybridStitchError(f"{name} must be true or false, not {shown(value)}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | Path) or not str(value):
        raise HybridStitchError(f"{name} must be a text, not {shown(value)}")
    return str(value)


def option(default: Any, kind: type, check: Callable[[str, Any], Any], text: str, metavar: str | None = None) -> Any:
    """A field of `ServiceOptions` or of a class that adds options of its own."""
    return field(default=default, metadata={"option": Option(kind, check, text, metavar)})


def text(default: str | None, words: str, metavar: str | None = None) -> Any:
    """An option that is a text, or a path, which becomes one."""
    return option(default, str, _text, words, metavar)


def switch(default: bool | None, words: str) -> Any:
    """An option that is true or false."""
    return option(default, bool, _switch, words)


def count(default: int | None, span: range, words: str) -> Any:
    """An option that is a whole number."""
    return option(default, int, _whole(span), words, "N")


def seconds(default: float | None, least: float, words: str) -> Any:
    """An option that is a number of seconds."""
    return option(default, float, partial(_seconds, least=least), words, "SECONDS")


@dataclass(frozen=True)
class ServiceOptions:
    """What a service is loaded with, and how requests wait for it. None means the default.

    Raises:
        HybridStitchError: a value of another type or out of its range, in one line.
    """

    pair: str = text("demo", "a recipe's name or its .toml file", "NAME")
    engines: str | None = text(None, "the folder of built engines", "DIR")
    backend: str = text("onnxruntime", "what runs the engines", "NAME")
    device: str | None = text(None, "such as cuda:1 (default: the CPU, or the backend's GPU)", "NAME")
    threads: int | None = count(None, THREADS, "CPU threads (default: the cores)")
    low_memory: bool | None = switch(None, "hold text encoders and decoder only while they run (default: the recipe's)")
    schedule: str | None = text(None, "method and settings from a file that tune wrote", "FILE")
    warm_up: bool = switch(True, "whether to draw once before the first request")
    max_queue: int = count(16, range(1, MOST_QUEUED + 1), "pictures that wait, at most")
    max_batch: int | None = count(None, range(1, MOST_BATCH + 1), "pictures drawn together, at most")
    max_delay: float = seconds(0.02, 0, "how long a picture waits for others to be drawn with")
    timeout: float | None = seconds(None, 0.001, "how long a picture may take, its wait included (default: any time)")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            value = one.default if value is None else one.metadata["option"].check(one.name, value)
            object.__setattr__(self, one.name, value)

    @classmethod
    def table(cls) -> dict[str, Option]:
        """Every option by its name, in the order in which they are declared."""
        return {one.name: one.metadata["option"] for one in fields(cls)}

    @classmethod
    def default(cls, name: str) -> Any:
        """What an option is where nobody names it."""
        return cls.__dataclass_fields__[name].default

    @classmethod
    def among(cls, values: Mapping[str, Any]) -> Self:
        """The options among other values, such as a command's arguments.

        Raises:
            HybridStitchError: as the class.
        """
        return cls(**{name: values[name] for name in cls.table() if name in values})

    @classmethod
    def parsed(cls, values: Mapping[str, Any]) -> Self:
        """The options of texts (or of values, which stay as they are).

        Raises:
            HybridStitchError: an option that does not exist, or as the class.
        """
        table = cls.table()
        if unknown := [name for name in values if name not in table]:
            raise HybridStitchError(f"unknown option {shown(unknown[0])}; known: {', '.join(table)}")
        return cls(**{name: table[name].parsed(name, value) for name, value in values.items() if value is not None})

    def texts(self) -> dict[str, str]:
        """Those that are not at their defaults, as `parsed` reads them."""
        values = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: str(value) for name, (value, default) in values.items() if value != default}
