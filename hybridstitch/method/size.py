"""The size of a picture, in pixels."""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import HybridStitchError, shown


class Size(NamedTuple):
    """Width and height of a picture in pixels, written 1024x768."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str | Size) -> Size:
        """Read `WxH`, or see that a size is one.

        Raises:
            HybridStitchError: the text is not two positive whole numbers joined by an x.
        """
        match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", str(text) if isinstance(text, str | Size) else "")
        if not match:
            raise HybridStitchError(f"size {shown(text)} is not WIDTHxHEIGHT in pixels, for example 1024x768")
        return cls(int(match[1]), int(match[2]))
