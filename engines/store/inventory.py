"""What is built below a folder, and the removal of what can no longer be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError

from .disk import writing
from .folder import MANIFEST, Store
from .manifest import Manifest, outdated


@dataclass(frozen=True)
class Entry:
    """One plan in one folder. component: its name there. manifest: None where it cannot be read. problems: why it must
    be built again."""

    folder: Path
    component: str
    manifest: Manifest | None
    bytes: int
    problems: tuple[str, ...]


def inventory(root: Path) -> list[Entry]:
    """Every engine below `root` (build, or a folder in it), by folder and component.

    Raises:
        HybridStitchError: there is no such folder.
    """
    if not root.is_dir():
        raise HybridStitchError(f"there is no folder {root}: nothing is built there")
    return [_entry(path.parents[1], path.parent.name) for path in sorted(root.rglob(MANIFEST))]


def prune(root: Path, *, dry_run: bool = False) -> list[Entry]:
    """Remove the engines that must be built again anyway; returns them.

    What no build made is left alone: a manifest that cannot be read may be anybody's.

    Raises:
        HybridStitchError: there is no such folder, or it cannot be written.
    """
    entries = [entry for entry in inventory(root) if _must_go(entry)]
    return entries if dry_run else [entry for entry in entries if _remove(entry)]


def _must_go(entry: Entry) -> bool:
    return bool(entry.problems) and entry.manifest is not None


def _remove(entry: Entry) -> bool:
    """Remove an engine unless a build made it anew, or another removed it, while the lock was waited for."""
    store = Store(entry.folder)
    with store.locked(), writing(entry.folder):
        if entry.component not in store.names() or not _must_go(_entry(entry.folder, entry.component)):
            return False
        store.remove(entry.component)
    return True


def _entry(folder: Path, component: str) -> Entry:
    size = sum(path.stat().st_size for path in (folder / component).iterdir() if path.is_file())
    try:
        manifest = Store(folder).manifest(component)
    except HybridStitchError as error:
        return Entry(folder, component, None, size, (str(error),))
    return Entry(folder, component, manifest, size, tuple(outdated(manifest)))
