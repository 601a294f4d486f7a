"""The errors that a user is meant to read, and how they show what they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class HybridStitchError(ValueError):
    """Bad input or a machine that does not fit: one line that says what was wrong, what is allowed, what to do.

    The command line prints it without a traceback and exits with code 2; a server answers 400.

    parameter: the argument of `HybridStitch` that is to blame, by its name there; None: none alone.
    """

    def __init__(self, *words: object, parameter: str | None = None) -> None:
        super().__init__(*words)
        self.parameter = parameter


class OutOfMemory(HybridStitchError):
    """Memory does not hold what was asked for; for fewer or smaller pictures it may. One line says what for, how
    much, and what helps.

    needed, free: bytes of what could not be allocated and of what was free then; None: nobody could tell.
    """

    def __init__(self, *words: object, needed: int | None = None, free: int | None = None) -> None:
        super().__init__(*words)
        self.needed, self.free = needed, free


@contextmanager
def blaming(parameter: str) -> Iterator[None]:
    """Errors that are raised within and blame no parameter blame this one."""
    try:
        yield
    except HybridStitchError as error:
        error.parameter = error.parameter or parameter
        raise


def shown(value: Any, most: int = 40) -> str:
    """Any value in a line of an error, of `most` characters at most: also one of which Python makes no text, such as a
    whole number of over 4,300 digits."""
    try:
        return f"{value!r:.{most}}"
    except Exception:  # whatever a stranger's __repr__ raises
        return f"a value of type {type(value).__name__}"
