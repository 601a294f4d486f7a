"""What a picture's file is called: after its prompt, in the prompt's own script, its seed and its method."""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from pathlib import Path

MOST_CHARACTERS = 60
"""Of a prompt: a name is to be read. What it leaves out is in the picture's metadata."""
LONGEST = 255
"""Bytes of a name on most file systems; some take fewer, hardly one takes more."""
_ROOM = len("-9999-mask.png")
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
"""Letters and marks that show nothing, such as fillers and variation selectors; formats (Cf) are unseen too."""


def picture_stem(folder: Path, prompt: str, seed: int, method: str) -> str:
    """The name of a picture without its ending, as `stem` gives it; in ASCII where the folder takes no other name."""
    longest = min(LONGEST, name_limit(folder))
    name = stem(prompt, seed, method, longest)
    if name.isascii() or _takes(folder, name):
        return name
    return stem(re.sub(r"[^a-z0-9]+", " ", prompt.lower()), seed, method, longest)


def stem(prompt: str, seed: int, method: str, longest: int = LONGEST) -> str:
    """The words of a prompt, lower case and composed (NFC), its seed and its method, with hyphens between them.

    Letters and digits stay, of any script, with their marks. Whatever else is visible parts words: dots, slashes and
    what some file system reserves. What cannot be seen is left out: marks of direction, joiners, fillers.

    Args:
        longest: bytes of the whole file name. Its ending has room in them, and so have a number and the mask's name.
    """
    ending = f"-seed{seed}-{method}"
    beginning = prompt[: 20 * MOST_CHARACTERS]
    words = _cut("-".join(_words(beginning)), longest - len(ending) - _ROOM) or "picture"
    return f"{words}{ending}"


def name_limit(folder: Path) -> int:
    """The bytes of a file's name in a folder, at most."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, ValueError, OSError):  # a system or a file system that does not tell
        return LONGEST


def _words(prompt: str) -> list[str]:
    seen = "".join(sign for sign in _UNSEEN.sub("", prompt) if unicodedata.category(sign) != "Cf")
    composed = unicodedata.normalize("NFC", seen.lower())
    parted = "".join(sign if unicodedata.category(sign)[0] in "LMN" else " " for sign in composed)
    return [word for word in map(_without_loose_marks, parted.split()) if word]


def _without_loose_marks(word: str) -> str:
    """A mark without a letter before it would sit on the hyphen."""
    first = next((place for place, sign in enumerate(word) if not _is_mark(sign)), len(word))
    return word[first:]


def _is_mark(sign: str) -> bool:
    return unicodedata.category(sign).startswith("M")


def _cut(text: str, most_bytes: int) -> str:
    """The beginning of a text, without the last letter where its marks would be cut off."""
    end = min(len(text), MOST_CHARACTERS)
    while end > 0 and (len(text[:end].encode()) > most_bytes or (end < len(text) and _is_mark(text[end]))):
        end -= 1
    return text[:end].rstrip("-")


def _takes(folder: Path, name: str) -> bool:
    """Whether the file system of a folder takes a name: tried in a hidden folder, where nobody looks for pictures."""
    try:
        with tempfile.TemporaryDirectory(prefix=".name-", dir=folder) as hidden:
            (Path(hidden) / name).touch()
    except (OSError, UnicodeEncodeError):
        return False
    return True
