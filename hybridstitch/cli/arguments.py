"""What the commands' arguments have in common: one-line errors, and types that say what they take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import finite, whole, whole_seed
from hybridstitch.method.settings import SETTINGS
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import recipe_names
from hybridstitch.serving.options import ServiceOptions

DEFAULT_PAIR = ServiceOptions.default("pair")
BACKENDS = ("onnxruntime", "tensorrt", "tensorrt_rtx", "torch")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, without the usage before them."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"allow_abbrev": False, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def checked(kind: type, check: Callable[[Any], Any]) -> Callable[[str], Any]:
    """Text of a kind, such as int, through a check whose words a refusal has."""

    def parse(text: str) -> Any:
        value: Any = text
        with suppress(ValueError):
            value = kind(text)
        try:
            return check(value)
        except HybridStitchError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


size = checked(str, Size.parse)


def place(text: str) -> str:
    """A file or a folder: what an unset variable of a shell leaves is none."""
    if not text:
        raise argparse.ArgumentTypeError("it names no file or folder: it is empty")
    return text


def add_setting(parser: Any, name: str) -> None:
    """The flag of a setting of the method: its type, range, words and help are the setting's."""
    setting = SETTINGS[name]
    metavar = "|".join(setting.choices) or setting.metavar
    parser.add_argument(
        f"--{name.replace('_', '-')}", type=checked(str, setting.parsed), metavar=metavar, help=setting.help
    )


def add_schedule(parser: Any) -> None:
    parser.add_argument(
        "--schedule",
        type=place,
        metavar="FILE",
        help="method and settings from a .toml file, as tune writes it, instead of the recipe's",
    )


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


def add_seed(parser: Any, default: int | None, words: str) -> None:
    parser.add_argument(
        "--seed", type=checked(int, whole_seed), default=default, metavar="N", help=f"{words} (default: 0)"
    )


def add_engines(parser: Parser) -> None:
    parser.add_argument(
        "--engines",
        type=place,
        metavar="DIR",
        help="where they were built (default: build/PAIR/BACKEND); plans can run code: name only folders you trust",
    )


def add_overwrite(parser: Any) -> None:
    parser.add_argument(
        "--overwrite", action="store_true", help="let files that are there already be replaced (default: refused)"
    )


def add_threads(parser: Any) -> None:
    add_service_option(parser, "threads")


def add_low_memory(parser: Any) -> None:
    parser.add_argument(
        "--low-memory",
        action="store_true",
        default=None,
        help="hold text encoders and decoder only while they run: less memory, but each batch loads them again "
        "(default: the recipe's)",
    )


def add_service_option(parser: Any, name: str) -> None:
    """The flag of an option of the service: its type, range, default and help are the option's."""
    option, default, flag = ServiceOptions.table()[name], ServiceOptions.default(name), name.replace("_", "-")
    parser.add_argument(
        f"--{flag}",
        type=checked(str, partial(option.parsed, flag)),
        metavar=option.metavar,
        help=option.help if default is None else f"{option.help} (default: {default})",
    )


def add_queue(parser: Any) -> None:
    """How requests wait for a service."""
    queue = parser.add_argument_group("how requests wait")
    for name in ("max_queue", "max_batch", "max_delay", "timeout"):
        add_service_option(queue, name)


def whole_number(name: str, least: int, most: int) -> Callable[[str], Any]:
    """A flag that takes a whole number."""
    return checked(int, partial(whole, name, span=range(least, most + 1)))


def number_over(name: str, least: float, most: float) -> Callable[[str], Any]:
    """A flag that takes a number over `least`."""

    def check(value: Any) -> float:
        number = finite(name, value)
        if not least < number <= most:
            raise HybridStitchError(f"{name} must be over {least:g} and at most {most:g}, not {number:g}")
        return number

    return checked(float, check)
