"""What a built engine is: everything that decides whether it may be used, as one JSON file beside the plan."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import metadata
from typing import Any, get_args

from packaging.version import Version
from pydantic import TypeAdapter, ValidationError

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry
from hybridstitch.models.tensors import TensorSpec
from hybridstitch.pairs.recipe import Dtype, first_problem

from ..backends import BACKENDS, Hardware
from ..profiles import Profile

FORMAT = 3
DISTRIBUTION = "hybridstitch-trt"


def our_version() -> str:
    """The installed version of this package."""
    return metadata.version(DISTRIBUTION)


@dataclass(frozen=True)
class StoredFile:
    """A file of an engine: its name in the component's folder, its size in bytes, and its SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Scratch:
    """Memory of an engine's activations: an estimate in bytes, at the lengths of its dynamic dimensions."""

    lengths: Mapping[str, int]
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """One plan: all of a component, or its part for a picture size.

    pair, component, backend: which. part: the size, as "1024x1024"; empty: the component has no other plan.
    backend_version, version: of the backend and of this package.
    hardware: what the plan was built on. targets: the GPUs that it runs on, as "SM89"; none: only `hardware`.
    weights_from: the checkpoint's files that the weights came from, and their sizes in bytes.
    options: the builder's options that were given; checkpoint: the weights' folder, of the torch backend alone.
    files: by role, "plan" (and "weights", "position", ...). assets: the folder of tokenizers and scheduler.
    weight_bytes: of the graph's weights. scratch: the memory of its activations, in bytes, at each shape of the recipe.
    built: when the build ended (ISO 8601).
    """

    pair: str
    component: str
    backend: str
    backend_version: str
    version: str
    dtype: str
    hardware: Hardware
    targets: tuple[str, ...]
    graph_sha256: str
    weights_sha256: str
    weights_from: Mapping[str, int]
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    profiles: tuple[Profile, ...]
    options: Mapping[str, Any]
    geometry: Geometry | None
    part: str = ""
    zero_text_tokens: int = 0
    checkpoint: str | None = None
    assets: str | None = None
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    weight_bytes: int = 0
    scratch: tuple[Scratch, ...] = ()
    built: str = ""

    @property
    def name(self) -> str:
        """Of its folder, and in what is said of this plan alone: "large", or "large@1024x1024"."""
        return f"{self.component}@{self.part}" if self.part else self.component

    @property
    def key(self) -> str:
        """A hash of all that decides what the builder makes; the same key is the same engine."""
        decides = replace(self, weights_from={}, assets=None, files={}, weight_bytes=0, scratch=(), built="").as_json()
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        content = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            "format": FORMAT,
            **content,
            "hardware": asdict(self.hardware),
            "targets": list(self.targets),
            "weights_from": dict(self.weights_from),
            "inputs": _tensors_as_json(self.inputs),
            "outputs": _tensors_as_json(self.outputs),
            "profiles": [profile.as_json() for profile in self.profiles],
            "options": dict(self.options),
            "geometry": asdict(self.geometry) if self.geometry else None,
            "files": {role: asdict(file) for role, file in self.files.items()},
            "scratch": [asdict(scratch) for scratch in self.scratch],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """Raises KeyError, TypeError or ValueError for what `as_json` never made."""
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, this version reads {FORMAT}")
        values = {entry.name: content[entry.name] for entry in fields(cls)}
        try:
            manifest = TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from None
        if manifest.backend not in BACKENDS:
            raise ValueError(f"its backend is {manifest.backend!r}")
        if manifest.dtype not in get_args(Dtype):
            raise ValueError(f"its dtype is {manifest.dtype!r}")
        if empty := [name for name in ("inputs", "outputs", "profiles") if not getattr(manifest, name)]:
            raise ValueError(f"its {empty[0]} are none")
        if manifest.component in ("large", "small") and manifest.geometry is None:
            raise ValueError("a transformer without geometry")
        if foreign := [file.name for file in manifest.files.values() if file.name != _bare(file.name)]:
            raise ValueError(f"file {foreign[0]!r} is not in its folder")
        if manifest.assets is not None and manifest.assets != _bare(manifest.assets):
            raise ValueError(f"assets {manifest.assets!r} are not in its folder")
        if wrong := [name for name in manifest.targets if not re.fullmatch(r"SM[0-9]+\+?", name)]:
            raise ValueError(f"its target {wrong[0]!r} is none")
        if manifest.geometry and (low := [key for key, value in asdict(manifest.geometry).items() if value < 1]):
            raise ValueError(f"geometry.{low[0]} is less than 1")
        return manifest


def check_usable(manifest: Manifest, *, backend: str, hardware: Hardware, rebuild: str) -> None:
    """Refuse an engine that this machine cannot run, before anything of it is read.

    Args:
        backend: the one that is asked for.
        hardware: of the device that is to run it.
        rebuild: the command that builds it anew.

    Raises:
        HybridStitchError: the message names what differs and `rebuild`.
    """
    backend_info = BACKENDS[backend]
    differences = outdated(manifest)
    if manifest.backend != backend:
        differences.insert(0, f"it was built for backend {manifest.backend}, not {backend}")
    if backend_info.needs_gpu and not _runs_on(manifest, hardware):
        built_for = f"GPUs {', '.join(manifest.targets)}" if manifest.targets else str(manifest.hardware)
        differences.append(f"it was built for {built_for}, here is {hardware}")
    if differences:
        raise HybridStitchError(
            f"the {manifest.name} engine of pair {manifest.pair!r} cannot be used: "
            f"{'; '.join(differences)}. Build it again: {rebuild}"
        )


def outdated(manifest: Manifest) -> list[str]:
    """Why an engine must be built again whatever the machine: versions that are not the installed ones."""
    backend, differences = BACKENDS[manifest.backend], []
    if backend.installed and not _reads(manifest, backend.version):
        differences.append(f"it was built by {backend.title} {manifest.backend_version}, here is {backend.version}")
    if manifest.version != our_version():
        differences.append(f"it was built by hybridstitch-trt {manifest.version}, here is {our_version()}")
    return differences


def changes(old: Manifest, new: Manifest) -> list[str]:
    """What differs between two engines, as names to show beside a rebuild; empty: nothing."""
    names = {
        "graph_sha256": "the graph",
        "weights_sha256": "the weights",
        "inputs": "the inputs",
        "outputs": "the outputs",
    }
    before, after = old.as_json(), new.as_json()
    ignored = {"format", "weights_from", "assets", "files", "weight_bytes", "scratch", "built"}
    return [
        names.get(name, name.replace("_", " "))
        for name in before
        if name not in ignored and before[name] != after[name]
    ]


def _reads(manifest: Manifest, here: str) -> bool:
    """Plans are for one version of the backend, unless the builder was told to let later ones of its major run them."""
    if not manifest.options.get("version_compatible"):
        return manifest.backend_version == here
    built, now = Version(manifest.backend_version), Version(here)
    return now.major == built.major and now >= built


def _runs_on(manifest: Manifest, hardware: Hardware) -> bool:
    """Plans are for one GPU model, unless the builder was told to cover compute capabilities."""
    if not manifest.targets:
        return manifest.hardware == hardware
    have = int((hardware.compute_capability or "0").replace(".", ""))
    for target in manifest.targets:
        number = int(target.removeprefix("SM").removesuffix("+"))
        if have == number or (target.endswith("+") and have >= number):
            return True
    return False


def _tensors_as_json(tensors: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {name: {"dtype": spec.dtype, "dims": list(spec.dims)} for name, spec in tensors.items()}


def _bare(name: str) -> str:
    """The name alone, so that a manifest cannot point out of its folder."""
    return name.replace("\\", "/").rsplit("/", 1)[-1].lstrip(".") or "file"
