"""An exported pair -> the engines of one backend, in a folder that needs nothing else to run."""

from __future__ import annotations

import errno
import json
import shlex
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.progress import OnProgress, Progress, silent, within
from hybridstitch.models.component import COMPONENTS
from hybridstitch.models.digests import Digests
from hybridstitch.pairs.recipe import Recipe

from ..backends import Backend, Hardware, find_backend, hardware, require_gpu
from ..store.disk import require_space, writing
from ..store.folder import Store, default_folder
from ..store.manifest import Manifest, changes, our_version
from .exported_graph import Graph, exported_components, read_graph
from .options import BuildOptions, rtx_targets
from .recipe_profiles import profiles_of_plans
from .scratch import scratch_at


@dataclass(frozen=True)
class ComponentReport:
    """What became of one plan. component: its name, with the size where a component has a plan for each.
    why: what had changed (empty for a first build). bytes: of all its files."""

    component: str
    state: Literal["built", "unchanged"]
    seconds: float
    bytes: int
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildReport:
    """What a build did, component by component."""

    pair: str
    backend: str
    folder: Path
    components: tuple[ComponentReport, ...]


def build_pair(
    recipe: Recipe,
    onnx_dir: Path | str,
    out_dir: Path | str | None = None,
    backend: str = "onnxruntime",
    *,
    components: Sequence[str] | None = None,
    options: BuildOptions | None = None,
    progress: OnProgress = silent,
) -> BuildReport:
    """Build what changed since the last build, and leave the rest.

    Each plan changes in one step: a build that is killed leaves it as it was, and those before it built. Plans that a
    component no longer has go last. Two builds of one folder take turns.

    Args:
        onnx_dir: what `hybridstitch-trt export` filled.
        out_dir: build/<pair>/<backend> by default.
        components: some of those exported; all by default.

    Raises:
        HybridStitchError: an unknown or missing backend, a wrong option, nothing exported, a graph that the backend
            does not take, not enough memory or disk, or a folder that cannot be written.
        KeyboardInterrupt: Ctrl-C; nothing half-built is left.
    """
    backend_info, options = find_backend(backend), options or BuildOptions()
    _ = backend_info.version
    options.check(backend)
    source = Path(onnx_dir)
    _check_pair(source, recipe)
    graphs = [read_graph(source / name) for name in _choose(source, components)]
    _check_hashes(source, graphs)
    geometry = _geometry(source)
    planned = [_manifests(recipe, graph, geometry, backend_info, options) for graph in graphs]
    folder = Path(out_dir) if out_dir else default_folder(recipe.name, backend)
    store = Store(folder, pair=recipe.name, backend=backend, argument=recipe.argument)
    reports = []
    with store.locked(waiting=lambda: progress(Progress(f"waiting for another build of {store.folder}"))):
        _remove_others(store, source)
        assets = store.add_assets(source / "assets") if (source / "assets").is_dir() else None
        for graph, manifests in zip(graphs, planned, strict=True):
            for manifest in manifests:
                manifest, report = replace(manifest, assets=assets), within(progress, manifest.name)
                reports.append(_bring_up_to_date(store, graph, manifest, recipe, geometry, options, report))
            _remove_plans(store, graph.component, kept={manifest.name for manifest in manifests})
        store.learn(Digests(source), {path for graph in graphs for path in graph.weights_from})
    return BuildReport(recipe.name, backend, store.folder, tuple(reports))


def _bring_up_to_date(
    store: Store,
    graph: Graph,
    manifest: Manifest,
    recipe: Recipe,
    geometry: Geometry,
    options: BuildOptions,
    report: OnProgress,
) -> ComponentReport:
    start = time.perf_counter()
    why: list[str] = []
    try:
        current = store.manifest(manifest.name)
    except HybridStitchError:
        current = None
    if current is not None:
        why = changes(current, manifest) if current.key != manifest.key else []
        if not why and not store.is_whole(current):
            why = ["its files"]
        if not why:
            if (current.assets, current.weights_from) != (manifest.assets, manifest.weights_from):
                current = store.update(replace(current, assets=manifest.assets, weights_from=manifest.weights_from))
            report(Progress("unchanged", 1, 1))
            return ComponentReport(manifest.name, "unchanged", time.perf_counter() - start, _bytes(current))
    report(Progress("building"))
    scratch = scratch_at(graph, recipe, graph.geometry or geometry, manifest.profiles, manifest.backend)
    manifest = replace(manifest, weight_bytes=graph.weight_bytes, scratch=scratch)
    built = _build(store, graph, manifest, options, report)
    report(Progress("built", 1, 1))
    return ComponentReport(manifest.name, "built", time.perf_counter() - start, _bytes(built), tuple(why))


def _build(store: Store, graph: Graph, manifest: Manifest, options: BuildOptions, report: OnProgress) -> Manifest:
    key = manifest.key[:12]
    if manifest.backend != "torch":
        require_space(store.folder, graph.weight_bytes + 2**20, f"the {graph.component} engine")
    with store.workspace(manifest.name) as workspace:
        files: dict[str, Path] = {}
        if manifest.backend == "onnxruntime":
            from .onnxruntime_plan import build_onnxruntime

            files = build_onnxruntime(graph, workspace, key)
        elif manifest.backend != "torch":
            from .tensorrt_plan import build_tensorrt

            files = build_tensorrt(graph, manifest, workspace, options, report)
        if graph.position:
            files["position"] = workspace / f"position-{key}.safetensors"
            table = graph.position.read()
            with writing(store.folder):
                _save_position(table, files["position"])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return store.commit(replace(manifest, built=now), files)


def _save_position(table: Tensor, file: Path) -> None:
    try:
        save_file({"position": table}, file)
    except SafetensorError as error:  # it tells what the disk said in its own words
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from None


def _choose(source: Path, components: Sequence[str] | None) -> list[str]:
    exported = exported_components(source)
    for name in components or ():
        if name not in exported:
            state = "is not exported" if name in COMPONENTS else "is unknown"
            raise HybridStitchError(f"component {name!r} {state}; {source} holds {', '.join(exported)}")
    return [name for name in exported if components is None or name in components]


def _remove_others(store: Store, source: Path) -> None:
    """Remove the engines of components that the pair no longer has. The caller holds the lock."""
    for component in set(COMPONENTS) - set(exported_components(source)):
        _remove_plans(store, component, kept=())


def _remove_plans(store: Store, component: str, kept: Collection[str]) -> None:
    """Remove a component's plans but for some: those of sizes, or of a division, that are no more."""
    for name in store.names(component):
        if name not in kept:
            with writing(store.folder):
                store.remove(name)


def _pair_json(source: Path) -> dict[str, Any]:
    """Empty where it is none."""
    try:
        content = json.loads((source / "assets" / "pair.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_hashes(source: Path, graphs: Sequence[Graph]) -> None:
    """Refuse an export that did not end: its components may be of two checkpoints.

    Engines take the hashes over with their assets, which is how a build that dies between two of them is noticed.
    """
    hashes = _pair_json(source).get("hashes") or {}
    for graph in graphs:
        if graph.component not in hashes:
            raise HybridStitchError(f"the export in {source} did not end: {graph.component} is new; export again")
        here = {"graph_sha256": graph.graph_sha256, "weights_sha256": graph.weights_sha256}
        if hashes[graph.component] != here:
            raise HybridStitchError(f"the export in {source} did not end: {graph.component} changed; export again")


def _check_pair(source: Path, recipe: Recipe) -> None:
    """Refuse the export of another pair."""
    exported = _pair_json(source).get("pair", recipe.name)
    if exported != recipe.name:
        raise HybridStitchError(
            f"{source} holds the export of pair {exported!r}, not of {recipe.name!r}; "
            f"run hybridstitch-trt export --pair {shlex.quote(recipe.argument or recipe.name)}"
        )


def _geometry(source: Path) -> Geometry:
    """Of the transformer that text encoders and VAE work for."""
    for role in ("large", "small"):
        if (source / role / "graph.json").is_file():
            geometry = read_graph(source / role).geometry
            if geometry is not None:
                return geometry
    raise HybridStitchError(f"{source} holds no transformer with its geometry; export the pair again")


def _manifests(
    recipe: Recipe, graph: Graph, geometry: Geometry, backend: Backend, options: BuildOptions
) -> list[Manifest]:
    """What each plan of a component will be, but for its files. The torch backend has no plans to split."""
    runs_on, targets = _hardware(backend, options, graph.dtype)
    plans = profiles_of_plans(
        graph,
        recipe,
        geometry=graph.geometry or geometry,
        static_batch=options.static_batch,
        split=recipe.profiles.split and backend.name != "torch",
    )
    role: Literal["large", "small"] = "small" if graph.component == "small" else "large"
    whole = Manifest(
        pair=recipe.name,
        component=graph.component,
        backend=backend.name,
        backend_version=backend.version,
        version=our_version(),
        dtype=graph.dtype,
        hardware=runs_on,
        targets=targets,
        graph_sha256=graph.graph_sha256,
        weights_sha256=graph.weights_sha256,
        weights_from=graph.weights_from,
        inputs=graph.inputs,
        outputs=graph.outputs,
        profiles=(),
        options=options.as_json(),
        geometry=graph.geometry,
        zero_text_tokens=graph.zero_text_tokens,
        checkpoint=str(recipe.checkpoint(role).resolve()) if backend.name == "torch" else None,
    )
    return [replace(whole, part=part, profiles=profiles) for part, profiles in plans.items()]


def _hardware(backend: Backend, options: BuildOptions, dtype: str) -> tuple[Hardware, tuple[str, ...]]:
    """What a plan will be tied to, and the GPUs that it will run on if that is more than one model.

    Raises:
        HybridStitchError: TensorRT without a GPU; it cannot build for one that is not here. Or a GPU that TensorRT for
            RTX has no kernels for.
    """
    if not backend.needs_gpu:
        return Hardware("CPU"), ()
    if backend.name == "tensorrt_rtx":
        if options.compute_capabilities or not torch.cuda.is_available():
            return Hardware("any"), options.compute_capabilities or rtx_targets(dtype)
        require_gpu(backend)
        here = hardware(torch.device("cuda", torch.cuda.current_device()))
        return here, (here.target,)
    require_gpu(backend)
    here = hardware(torch.device("cuda", torch.cuda.current_device()))
    if options.hardware_compatible == "ampere_plus":
        return here, ("SM80+",)
    if options.hardware_compatible == "same_compute_capability":
        return here, (here.target,)
    return here, ()


def _bytes(manifest: Manifest) -> int:
    return sum(file.bytes for file in manifest.files.values())
