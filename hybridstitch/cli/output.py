"""Where pictures go, decided and tried before anything is drawn."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.whole_files import create, holds, replace

from .picture_names import name_limit, picture_stem


@dataclass(frozen=True)
class Place:
    """Where a picture goes: its path, or, where another has that name, the same name with a number. overwrite: it
    takes the place of what is there."""

    path: Path
    overwrite: bool = False

    def save(self, picture: bytes, mask: bytes | None = None) -> tuple[Path, Path | None]:
        """Write a picture, and beside it, by its name, the one that shows its mask.

        A name is taken where another picture has it, or another mask lies by it. What is there already, byte for byte,
        is not written again. The mask comes first, so that who finds the picture finds its mask.

        Returns:
            Where they are.

        Raises:
            HybridStitchError: they cannot be written; nothing half-written is left.
        """
        try:
            if self.overwrite:
                if mask is not None:
                    replace(mask_path(self.path), mask)
                replace(self.path, picture)
                path = self.path
            else:
                path = next(path for path in map(self._numbered, count(1)) if _saved(path, picture, mask))
        except OSError as error:
            raise HybridStitchError(f"cannot write {self.path}: {error.strerror or error}") from None
        return path, None if mask is None else mask_path(path)

    def _numbered(self, number: int) -> Path:
        return self.path if number == 1 else self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")


def picture_places(out: str, prompts: Sequence[str], seed: int, method: str, *, overwrite: bool = False) -> list[Place]:
    """One place for each prompt: the file itself, or files in the folder named after prompt, seed and method.

    Args:
        overwrite: what is there may go.

    Raises:
        HybridStitchError: the folder does not exist or cannot be written, several pictures for one file, a
            file that is no .png, or one that is there already, it or its mask, and may not go.
    """
    path = Path(out)
    if is_folder(path):
        require_writable(path)
        names = [picture_stem(path, prompt, seed + k, method) for k, prompt in enumerate(prompts)]
        return [Place(path / f"{name}.png", overwrite) for name in names]
    if path.suffix.lower() != ".png":
        if path.suffix:
            raise HybridStitchError(f"--out {out}: pictures are PNG files; name it {path.with_suffix('.png')}")
        raise HybridStitchError(f"--out {out}: no such folder; make it first, or name a .png file")
    if len(prompts) > 1:
        raise HybridStitchError(f"--out {out} is one file and there are {len(prompts)} prompts; give a folder")
    if not is_folder(path.parent):
        raise HybridStitchError(f"--out {out}: no such folder {path.parent}; make it first")
    require_writable(path.parent)
    longest = name_limit(path.parent)
    if len(os.fsencode(mask_path(path).name)) > longest:
        raise HybridStitchError(f"--out {out}: the name is too long; give one of at most {longest - 5} bytes")
    if not overwrite:
        require_free(path, "--out")
        require_free(mask_path(path), "--out")  # also where no mask is saved: it would pass for this picture's
    return [Place(path, overwrite)]


def mask_path(picture: Path) -> Path:
    """Where the picture with the refined region shown over it goes."""
    return picture.with_name(f"{picture.stem}-mask.png")


def require_free(path: Path, flag: str) -> None:
    """Refuse a file that is there already: nothing says that whoever made it can do without it."""
    if os.path.lexists(path):
        raise HybridStitchError(f"{flag}: {path} is there already; name another file, or add --overwrite")


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


def require_file_place(path: Path, flag: str, *, overwrite: bool) -> None:
    """Refuse a file that cannot be made, or is there and may not go, before what it shall hold is measured."""
    if is_folder(path):
        raise HybridStitchError(f"{flag} {path} is a folder; name a file in it")
    if not is_folder(path.parent):
        raise HybridStitchError(f"{flag} {path}: no such folder {path.parent}; make it first")
    require_writable(path.parent, flag)
    if not overwrite:
        require_free(path, flag)


def require_folder(path: Path, flag: str) -> None:
    """Refuse a folder that is not there or in which no file can be made."""
    if not is_folder(path):
        raise HybridStitchError(f"{flag} {path}: no such folder; make it first")
    require_writable(path, flag)


def write_whole(path: Path, text: str) -> None:
    """Write a file, or leave what was there: nobody finds half of it."""
    replace(path, text.encode())


def _saved(path: Path, picture: bytes, mask: bytes | None) -> bool:
    """Save a picture and its mask under a name, where it is free or theirs already.

    Raises:
        OSError: they cannot be written.
    """
    beside = mask_path(path)
    drawn_before = holds(path, picture)
    if not drawn_before and os.path.lexists(path):
        return False
    if mask is None:
        return drawn_before or (not os.path.lexists(beside) and create(path, picture))
    made_mask = create(beside, mask)
    if not made_mask and not holds(beside, mask):
        return False
    saved = False
    try:
        saved = drawn_before or create(path, picture) or holds(path, picture)
    finally:
        if made_mask and not saved:  # another process took the name in between, or there is no room
            beside.unlink()
    return saved
