"""The one error that a user is meant to read, and how it shows what it is about."""

from __future__ import annotations

from typing import Any


class HybridStitchError(ValueError):
    """Bad input or a machine that does not fit: one line that says what was wrong, what is allowed, what to do.

    The command line prints it without a traceback and exits with code 2; a server answers 400.
    """


def shown(value: Any, most: int = 40) -> str:
    """Any value in a line of an error, of `most` characters at most: also one of which Python makes no text, such as a
    whole number of over 4,300 digits."""
    try:
        return f"{value!r:.{most}}"
    except Exception:  # whatever a stranger's __repr__ raises
        return f"a value of type {type(value).__name__}"
