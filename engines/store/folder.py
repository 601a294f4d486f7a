"""Where built engines live: one folder per plan, changed only by whole steps.

    build/demo/onnxruntime/
        .digests.json               SHA-256 of the files below as they were when last read
        assets-<hash>/              tokenizers, scheduler and pair.json, as exported
        large/manifest.json         names the files below; renamed into place last
        large/plan-<key>.onnx
        large/position-<key>.safetensors
        large@1024x1024/...         instead of large/, where each size has a plan of its own

File names carry the manifest's key, so that a new engine never touches the files of the old one: until its manifest
is renamed into place the old one is whole, and from then on the new one is. What no manifest names is swept away by the
next build.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from hybridstitch.export.fingerprint import fingerprint
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.digests import Digests, file_sha256

from .disk import UNFINISHED, flush, folder_sha256, remove, write_atomically, writing
from .manifest import Manifest, StoredFile

MANIFEST = "manifest.json"
LOCK = ".lock"
_OURS = ("plan-*", "position-*")  # the names of engine files; nothing else is ever swept away


def default_folder(pair: str, backend: str) -> Path:
    """build/<pair>/<backend>, under the current folder."""
    return Path("build") / pair / backend


def rebuild_command(pair: str, backend: str, folder: Path, argument: str | None = None) -> str:
    """What a user types to build the engines of a folder. `argument` is what names the pair there, if not its name."""
    command = ["hybridstitch-trt", "build", "--pair", argument or pair, "--backend", backend]
    default = default_folder(pair, backend)
    return shlex.join(command if folder.absolute() == default.absolute() else [*command, "--out", str(folder)])


class Store:
    """The engines of one pair for one backend.

    pair, backend: for what it says to users; by default the last two parts of the folder's path.
    argument: what a user passes as --pair; by default the pair's name (see `Recipe.argument`).
    """

    def __init__(
        self, folder: Path, *, pair: str | None = None, backend: str | None = None, argument: str | None = None
    ) -> None:
        self.folder = Path(folder)
        absolute = self.folder.absolute()
        self.pair = pair or absolute.parent.name
        self.backend = backend or absolute.name
        self.argument = argument
        self._digests = Digests(self.folder)

    @property
    def rebuild(self) -> str:
        """The command that builds this folder."""
        return rebuild_command(self.pair, self.backend, self.folder, self.argument)

    def names(self, component: str | None = None) -> list[str]:
        """The names of the plans that are built here, or of those of one component (see `Manifest.name`).

        Raises:
            HybridStitchError: the folder cannot be read.
        """
        try:
            names = sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))
        except OSError as error:
            raise HybridStitchError(f"the engines in {self.folder} cannot be read: {error.strerror}") from None
        return [name for name in names if component in (None, name.partition("@")[0])]

    def plans(self, component: str) -> tuple[Manifest, ...]:
        """What is built of a component. One plan for all goes before plans for sizes: it is there beside them only
        while a build makes the ones of the other, and either is whole until it is gone.

        Raises:
            HybridStitchError: as `manifest`.
        """
        names = self.names(component)
        return tuple(map(self.manifest, [component] if component in names or not names else names))

    def manifest(self, name: str) -> Manifest:
        """What is built under a name.

        Raises:
            HybridStitchError: it is not built, or the manifest is not one that this version wrote.
        """
        path = self.folder / name / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            manifest = Manifest.from_json(content)
        except (FileNotFoundError, NotADirectoryError):
            raise HybridStitchError(
                f"the {name} engine of pair {self.pair!r} is not built: {self.folder} holds none. "
                f"Build it: {self.rebuild}"
            ) from None
        except OSError as error:
            raise HybridStitchError(f"{path} cannot be read: {error.strerror}") from None
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise HybridStitchError(
                f"{path} is not a manifest of this version ({reason}). Build it again: {self.rebuild}"
            ) from None
        if manifest.name != name:
            raise HybridStitchError(f"{path} is the manifest of {manifest.name}. Build it again: {self.rebuild}")
        return manifest

    def file(self, manifest: Manifest, role: str) -> Path | None:
        """The path of one of an engine's files, or None where it has none of that role."""
        stored = manifest.files.get(role)
        return self.folder / manifest.name / stored.name if stored else None

    def check_files(self, manifest: Manifest) -> None:
        """Refuse an engine whose files are not, byte for byte, what the builder wrote.

        Raises:
            HybridStitchError: a file is missing, cut short, or another.
        """
        for role in manifest.files:
            if problem := self._problem(manifest, role):
                raise HybridStitchError(f"{problem}. Build it again: {self.rebuild}")

    def check_weights(self, manifest: Manifest) -> None:
        """Refuse an engine whose checkpoint is at hand and holds other weights by now.

        Its files are read only where their size or modification time is not what it was. Engines that were carried to
        a machine without the checkpoint pass.

        Raises:
            HybridStitchError: the weights changed since the engine was built.
        """
        files = [Path(name) for name in manifest.weights_from]
        if not files or not all(path.is_file() for path in files):
            return
        same_sizes = all(
            path.stat().st_size == size for path, size in zip(files, manifest.weights_from.values(), strict=True)
        )
        if not same_sizes or fingerprint(files, self._digests) != manifest.weights_sha256:
            raise HybridStitchError(
                f"the weights in {files[0].parent} changed since the {manifest.name} engine was built. "
                f"Build it again: {self.rebuild}"
            )

    def learn(self, digests: Digests, files: Iterable[str]) -> None:
        """Take over what is known of checkpoint files, so that `check_weights` need not read them."""
        paths = [path for path in map(Path, files) if path.is_file()]
        self._digests.remember({path: digests.sha256(path) for path in paths})

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether all files of an engine are what the builder wrote."""
        return not any(self._problem(manifest, role) for role in manifest.files)

    def assets(self, manifests: Iterable[Manifest] | None = None) -> Path:
        """The folder of tokenizers, scheduler and pair.json that some engines share, by default all that are built.

        Raises:
            HybridStitchError: nothing is built, or the engines are of different exports.
        """
        manifests = map(self.manifest, self.names()) if manifests is None else manifests
        names = {manifest.assets for manifest in manifests}
        name = names.pop() if len(names) == 1 else None
        if name is None or not (self.folder / name).is_dir():
            state = "mix two exports" if names else "lack tokenizers and scheduler"
            raise HybridStitchError(f"the engines in {self.folder} {state}. Build them again: {self.rebuild}")
        if not self._holds_intact(name):
            raise HybridStitchError(
                f"the tokenizers and scheduler in {self.folder / name} are not as they were exported. "
                f"Build them again: {self.rebuild}"
            )
        return self.folder / name

    def _holds_intact(self, assets: str) -> bool:
        """Whether a folder of assets is there and whole: its name is a hash of its content."""
        path = self.folder / assets
        return path.is_dir() and assets == _assets_name(path)

    @contextmanager
    def locked(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the folder for one build; another waits here, after `waiting` was called once.

        Raises:
            HybridStitchError: the folder cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if waiting:
                    waiting()
                lock.acquire()
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    @contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """A folder to build in, on the same file system as the store, gone afterwards.

        Raises:
            HybridStitchError: no space left, or the folder cannot be written.
        """
        with writing(self.folder):
            home = self.folder / name
            home.mkdir(exist_ok=True)
            space = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=home))
        try:
            yield space
        finally:
            shutil.rmtree(space, ignore_errors=True)

    def commit(self, manifest: Manifest, files: Mapping[str, Path]) -> Manifest:
        """Make files (by role, in a workspace of this store, and named for good) and manifest the engine of its
        name, all at once.

        Raises:
            HybridStitchError: no space left, or the folder cannot be written.
        """
        home = self.folder / manifest.name
        with writing(self.folder):
            stored = {role: _describe(path) for role, path in files.items()}
            for path in files.values():
                path.chmod(0o644)  # safetensors writes files for their owner alone
                flush(path)
                path.replace(home / path.name)
            manifest = replace(manifest, files=stored)
            self._digests.remember({home / file.name: file.sha256 for file in stored.values()})
            write_atomically(home / MANIFEST, json.dumps(manifest.as_json(), indent=1) + "\n")
            self._sweep()
        return manifest

    def update(self, manifest: Manifest) -> Manifest:
        """Rewrite a manifest whose files stay."""
        with writing(self.folder):
            write_atomically(self.folder / manifest.name / MANIFEST, json.dumps(manifest.as_json(), indent=1) + "\n")
        return manifest

    def remove(self, name: str) -> None:
        """Remove an engine, its manifest first. The caller holds the lock."""
        home = self.folder / name
        (home / MANIFEST).unlink()
        for pattern in _OURS:
            remove(home.glob(pattern))
        if not any(home.iterdir()):
            home.rmdir()

    def add_assets(self, source: Path) -> str:
        """Copy a folder of assets into the store and return the name that it has there."""
        name = _assets_name(source)
        if not self._holds_intact(name):
            with writing(self.folder):
                remove([self.folder / name])
                space = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.folder))
                try:
                    _copy(source, space)
                    space.chmod(0o755)
                    space.replace(self.folder / name)
                finally:
                    shutil.rmtree(space, ignore_errors=True)
        return name

    def _problem(self, manifest: Manifest, role: str) -> str | None:
        stored, path = manifest.files[role], self.file(manifest, role)
        assert path is not None
        try:
            size = path.stat().st_size
            if size != stored.bytes:
                state = "cut short" if size < stored.bytes else "too long"
                return f"{path} is {state}: {size} of {stored.bytes} bytes"
            if self._digests.sha256(path) != stored.sha256:
                return f"{path} is not the file that was built: its checksum differs"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        return None

    def _sweep(self) -> None:
        """Remove what no manifest names. The caller holds the lock."""
        kept_assets = set()
        for name in self.names():
            try:
                manifest = self.manifest(name)
            except HybridStitchError:
                continue  # not ours to remove: an unreadable manifest is replaced by the build, not here
            kept_assets.add(manifest.assets)
            kept = {file.name for file in manifest.files.values()}
            for pattern in _OURS:
                remove(path for path in (self.folder / name).glob(pattern) if path.name not in kept)
        remove(self.folder.glob(f"{UNFINISHED}*"))
        remove(self.folder.glob(f"*/{UNFINISHED}*"))
        if kept_assets:
            remove(path for path in self.folder.glob("assets-*") if path.name not in kept_assets)


def _copy(source: Path, target: Path) -> None:
    """Copy the files of a folder; shutil.copytree would hide which error stopped it."""
    for path in (path for path in source.rglob("*") if path.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        flush(place)


def _describe(path: Path) -> StoredFile:
    return StoredFile(path.name, path.stat().st_size, file_sha256(path))


def _assets_name(folder: Path) -> str:
    return f"assets-{folder_sha256(folder)[:12]}"
