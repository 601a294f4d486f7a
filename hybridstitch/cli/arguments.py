"""What the commands' arguments have in common: one-line errors, and types that say what they take."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import SETTINGS
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import recipe_names

DEFAULT_PAIR = "demo"
BACKENDS = ("onnxruntime", "tensorrt", "tensorrt_rtx", "torch")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, without the usage before them."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"allow_abbrev": False, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def whole(what: str, within: range | None = None) -> Callable[[str], int]:
    """A whole number that is at least 0, or in the range."""
    least, most = (within[0], within[-1]) if within else (0, None)

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{what} must be a whole number, not {text!r:.40}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{what} must be at least {least}, not {value}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"{what} must be at most {most}, not {value}")
        return value

    return parse


def number(what: str) -> Callable[[str], float]:
    """A finite number; its range is checked where it is used."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{what} must be a number, not {text!r}")
        return value

    return parse


def size(text: str) -> Size:
    try:
        return Size.parse(text)
    except HybridStitchError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def place(text: str) -> str:
    """A file or a folder: what an unset variable of a shell leaves is none."""
    if not text:
        raise argparse.ArgumentTypeError("it names no file or folder: it is empty")
    return text


def add_setting(parser: Any, name: str) -> None:
    """The flag of a setting of the method: its type, range, words and help are the setting's."""
    setting = SETTINGS[name]

    def parse(text: str) -> Any:
        value: int | float | str = text
        with suppress(ValueError):
            value = text if setting.choices else setting.kind(text)
        try:
            return setting.checked(value)
        except HybridStitchError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    metavar = "|".join(setting.choices) or setting.metavar
    parser.add_argument(f"--{name.replace('_', '-')}", type=parse, metavar=metavar, help=setting.help)


def add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pair",
        type=place,
        metavar="NAME",
        help=f"a recipe: {', '.join(recipe_names())}, or a .toml file (default: demo)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        default="onnxruntime",
        choices=BACKENDS,
        help="what runs the engines (default: onnxruntime, on the CPU)",
    )
