"""Where pictures go, decided and tried before anything is drawn."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError


def picture_paths(out: str, prompts: Sequence[str], seed: int, method: str) -> list[Path]:
    """One path for each prompt: the file itself, or files in the folder named after prompt, seed and method.

    Raises:
        HybridStitchError: the folder does not exist or cannot be written, several pictures for one file, or a
            file that is no .png.
    """
    path = Path(out)
    if is_folder(path):
        require_writable(path)
        return [path / f"{_slug(prompt)}-seed{seed + k}-{method}.png" for k, prompt in enumerate(prompts)]
    if path.suffix.lower() != ".png":
        if path.suffix:
            raise HybridStitchError(f"--out {out}: pictures are PNG files; name it {path.with_suffix('.png')}")
        raise HybridStitchError(f"--out {out}: no such folder; make it first, or name a .png file")
    if len(prompts) > 1:
        raise HybridStitchError(f"--out {out} is one file and there are {len(prompts)} prompts; give a folder")
    if not is_folder(path.parent):
        raise HybridStitchError(f"--out {out}: no such folder {path.parent}; make it first")
    require_writable(path.parent)
    longest = os.pathconf(path.parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.fsencode(mask_path(path).name)) > longest:
        raise HybridStitchError(f"--out {out}: the name is too long; give one of at most {longest - 5} bytes")
    return [path]


def mask_path(picture: Path) -> Path:
    """Where the picture with the refined region shown over it goes."""
    return picture.with_name(f"{picture.stem}-mask.png")


def is_folder(path: Path) -> bool:
    """Whether it is a folder; a path that no file system takes is none."""
    try:
        return path.is_dir()
    except OSError:  # a name too long, or a folder above that may not be searched
        return False


def require_writable(folder: Path, flag: str = "--out") -> None:
    """Refuse a folder in which no file can be made. flag: what it was given by."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise HybridStitchError(f"{flag}: cannot write in {folder}: {error.strerror}") from None


def require_file_place(path: Path, flag: str) -> None:
    """Refuse a file that cannot be made, before what it shall hold is measured."""
    if is_folder(path):
        raise HybridStitchError(f"{flag} {path} is a folder; name a file in it")
    if not is_folder(path.parent):
        raise HybridStitchError(f"{flag} {path}: no such folder {path.parent}; make it first")
    require_writable(path.parent, flag)


def require_folder(path: Path, flag: str) -> None:
    """Refuse a folder that is not there or in which no file can be made."""
    if not is_folder(path):
        raise HybridStitchError(f"{flag} {path}: no such folder; make it first")
    require_writable(path, flag)


def write_whole(path: Path, text: str) -> None:
    """Write a file, or leave what was there: nobody finds half of it."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _slug(prompt: str) -> str:
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    return "-".join(words)[:60].rstrip("-") or "picture"
