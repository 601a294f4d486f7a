"""The one way to open a built pair: all of it is checked first, and only then is a plan read.

Manifests, assets and the files of every engine are looked at together, so that nothing shows up after gigabytes were
loaded, and so that engines of two exports are never run side by side. Files carry their manifest's key in their name:
what is opened later is what was checked, whatever a build does in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.numbers import THREADS, whole
from hybridstitch.method.size import Size
from hybridstitch.models.component import COMPONENTS, REQUIRED, SOURCES
from hybridstitch.models.weights import weight_files
from hybridstitch.pairs.recipe import Recipe

from .backends import find_backend, find_device, hardware
from .executors.engine import Engine
from .executors.split_engine import SplitEngine
from .full_lengths import full_lengths
from .plans import joined, plan_for
from .profiles import SIZED
from .store.folder import Store, default_folder
from .store.manifest import Manifest, check_usable


@dataclass(frozen=True)
class FoundPair:
    """What is built of a pair, told from manifests alone; whether it can run here is not known.

    plans: by component, in the order in which components are built; several where each size has its own.
    """

    store: Store
    plans: Mapping[str, tuple[Manifest, ...]]

    @cached_property
    def manifests(self) -> Mapping[str, Manifest]:
        """By component, that of all its plans together."""
        return {component: joined(plans) for component, plans in self.plans.items()}

    def needed(self, size: Size, batch: int) -> dict[str, Manifest]:
        """The plan of each component that draws pictures of a size.

        Raises:
            HybridStitchError: a size that the model cannot draw.
        """
        return {
            component: plan_for(plans, full_lengths(plans[0].inputs, self.geometry, size, batch))
            for component, plans in self.plans.items()
        }

    @property
    def folder(self) -> Path:
        return self.store.folder

    @property
    def geometry(self) -> Geometry:
        """The large transformer's."""
        geometry = self.manifests["large"].geometry
        assert geometry is not None  # every transformer has one
        return geometry


@dataclass(frozen=True)
class BuiltPair(FoundPair):
    """A pair that is whole and can run on `device`; no plan is open yet.

    assets: the folder of tokenizers, scheduler and pair.json. threads: CPU threads of an engine; None: the cores.
    """

    device: torch.device
    assets: Path
    threads: int | None = None

    def engine(self, component: str) -> Engine:
        """Open one engine; one of several plans opens each when a call needs it.

        Raises:
            HybridStitchError: as `open_plan`.
        """
        plans = self.plans[component]
        return self.open_plan(plans[0]) if len(plans) == 1 else SplitEngine(plans, self.open_plan, device=self.device)

    def open_plan(self, manifest: Manifest) -> Engine:
        """Open one of the pair's plans.

        Raises:
            HybridStitchError: the backend cannot read the plan, memory does not hold it, or a build has replaced the
                pair since it was checked.
        """
        backend = find_backend(self.store.backend)
        self._require_files(manifest)
        if manifest.part:
            self.store.check_files(manifest)  # again: it may be long since the pair was opened
        if backend.name == "torch":
            from .executors.torch_engine import TorchEngine  # a slow import

            return TorchEngine(manifest, device=self.device, threads=self.threads)
        plan = self.store.file(manifest, "plan")
        if plan is None:
            raise HybridStitchError(f"{self.folder / manifest.name} has no plan. Build it again: {self.store.rebuild}")
        if backend.is_tensorrt:
            from .executors.tensorrt_engine import TensorRTEngine  # only where there is a GPU

            return TensorRTEngine(manifest, plan, device=self.device)
        from .executors.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(manifest, plan, threads=self.threads)

    def positions(self, component: str) -> Tensor:
        """The whole position table of a transformer, [S, S, D] in float32, on the CPU.

        Raises:
            HybridStitchError: it is no transformer, or a build has replaced the pair since it was checked.
        """
        manifest = self.plans[component][0]  # each has the whole table
        path = self.store.file(manifest, "position")
        if path is None:
            raise HybridStitchError(f"the {component} engine has no position table: it is no transformer")
        self._require_files(manifest)
        return load_file(path)["position"]

    def _require_files(self, manifest: Manifest) -> None:
        paths = [self.store.file(manifest, role) for role in manifest.files]
        if gone := [path for path in paths if path is not None and not path.is_file()]:
            raise HybridStitchError(f"{gone[0]} is gone: the pair was built again since it was opened; open it again")


def find_pair(
    folder: Path | str | None,
    *,
    pair: str,
    backend: str,
    needed: Sequence[str] = REQUIRED,
    argument: str | None = None,
    split: bool | None = None,
) -> FoundPair:
    """What is built of a pair; nothing of a plan is read.

    Args:
        folder: where it was built; by default build/<pair>/<backend>.
        needed: the components that must be there; others are found where they are.
        argument: what names the pair on the command line, for messages; by default its name.
        split: whether the recipe asks for a plan for each size; None: whichever is built.

    Raises:
        HybridStitchError: an unknown backend; a folder above or below that of the engines; a component that is not
            built, or of another pair, or split otherwise, or whose manifest is not of this version; the message names
            the right folder, or the command that builds it.
    """
    place = Path(folder) if folder is not None else default_folder(pair, backend)
    store = Store(place, pair=pair, backend=find_backend(backend).name, argument=argument)
    if folder is not None and not store.names():
        _refuse_wrong_place(place, pair=pair, backend=backend)
    plans = {name: store.plans(name) for name in COMPONENTS if name in needed or store.names(name)}
    for manifest in (manifest for several in plans.values() for manifest in several):
        if manifest.pair != pair:
            raise HybridStitchError(
                f"{place} holds engines of pair {manifest.pair!r}, not of {pair!r}. Build them: {store.rebuild}"
            )
        if split is not None and split != bool(manifest.part) and _may_be_split(manifest):
            here, requested = (
                ("a plan for each size", "one") if manifest.part else ("one plan for all sizes", "per-size")
            )
            raise HybridStitchError(
                f"{place} holds {here} of {manifest.component}, and the recipe asks for plans = {requested!r}. "
                f"Build it again: {store.rebuild}"
            )
    return FoundPair(store, plans)


def find_engines(recipe: Recipe, backend: str, folder: Path | str | None = None) -> FoundPair:
    """What is built of a recipe's pair, as the recipe asks for it.

    Raises:
        HybridStitchError: see `find_pair`.
    """
    return find_pair(folder, pair=recipe.name, backend=backend, argument=recipe.argument, split=recipe.profiles.split)


def open_pair(
    folder: Path | str | None,
    *,
    pair: str,
    backend: str,
    device: torch.device | str | None = None,
    threads: int | None = None,
    needed: Sequence[str] = REQUIRED,
    argument: str | None = None,
    split: bool | None = None,
) -> BuiltPair:
    """A built pair, ready for its engines to be opened one by one. Plans can run code: open only what you trust.

    Args:
        folder, needed, argument, split: see `find_pair`.
        device: the CPU, or the current GPU for backends that need one, by default.
        threads: CPU threads of a call, of onnxruntime (by default one for each physical core) and torch.

    Raises:
        HybridStitchError: threads that are not 1 to 1024, an unknown or missing backend, no such device, or, of any
            component: not built, built for another pair, version or GPU, files that are damaged, a checkpoint that is
            gone (of the torch backend); or components of two exports. Checked in this order.
    """
    threads = None if threads is None else whole("threads", threads, THREADS)
    backend_info = find_backend(backend)
    _ = backend_info.version
    place = find_device(backend_info, device)
    look = partial(find_pair, folder, pair=pair, backend=backend, needed=needed, argument=argument, split=split)
    engines = look()
    while True:
        plans = [manifest for several in engines.plans.values() for manifest in several]
        for manifest in plans:
            check_usable(manifest, backend=backend, hardware=hardware(place), rebuild=engines.store.rebuild)
        try:
            for manifest in plans:
                engines.store.check_files(manifest)
                engines.store.check_weights(manifest)
                _check_checkpoint(manifest)
            assets = engines.store.assets(plans)
        except HybridStitchError:
            now = look()
            if now.plans == engines.plans:
                raise
            engines = now  # a build has ended since the manifests were read
            continue
        return BuiltPair(engines.store, engines.plans, place, assets, threads)


def _refuse_wrong_place(place: Path, *, pair: str, backend: str) -> None:
    """Name the folder of the pair's engines where it is above or below the one that was named, or beside ONNX files.

    Raises:
        HybridStitchError: there is such a folder.
    """
    places = [place.parent, place / backend, place / pair / backend]
    if any(place.glob("*/graph.json")):
        places.append(place.parent / backend)
    for other in places:
        if other.absolute() != place.absolute() and _holds_engines(other, pair, backend):
            raise HybridStitchError(f"{place} is not the folder of the engines; name {other}")


def _holds_engines(place: Path, pair: str, backend: str) -> bool:
    store = Store(place)
    try:
        manifests = [store.manifest(name) for name in store.names()]
    except HybridStitchError:
        return False
    return any((manifest.pair, manifest.backend) == (pair, backend) for manifest in manifests)


def _may_be_split(manifest: Manifest) -> bool:
    """Text encoders know no sizes, and the torch backend has no plans."""
    dims = {dim for spec in manifest.inputs.values() for dim in spec.dims}
    return bool(dims & SIZED) and manifest.backend != "torch"


def _check_checkpoint(manifest: Manifest) -> None:
    """The weights of an engine of the torch backend are in a checkpoint, which must be there still."""
    if manifest.checkpoint is None:
        return
    checkpoint = Path(manifest.checkpoint)
    if not checkpoint.is_dir():
        raise HybridStitchError(
            f"the checkpoint of the {manifest.component} engine, {checkpoint}, is no folder any more"
        )
    weight_files(checkpoint / SOURCES.get(manifest.component, manifest.component))
