"""ONNX -> a TensorRT plan, by TensorRT (10.8 and later) or TensorRT for RTX: one plan holds all profiles.

The network is strongly typed: precision lives in the graph, as exported.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import OnProgress, Progress

from ..store.disk import remove, writing
from ..store.manifest import Manifest
from ..tensorrt_module import make_log, tensorrt_module
from .graph import Graph
from .interrupt import interruptible
from .options import BuildOptions

_MEMORY_TROUBLE = re.compile(
    r"out of memory|OutOfMemory|bad_alloc|insufficient (workspace|memory)|Could not find any implementation for node",
    re.IGNORECASE,
)


def build_tensorrt(
    graph: Graph, wanted: Manifest, workspace: Path, options: BuildOptions, report: OnProgress
) -> dict[str, Path]:
    """Build one component's plan in `workspace`.

    Args:
        wanted: the manifest to fulfil: backend, targets, profiles.
        report: the builder's progress.

    Raises:
        HybridStitchError: TensorRT is missing or does not load, a node that it does not support, not enough memory, a
            timing cache that cannot be read, a plan that cannot be written, or whatever else the builder gave as its
            reason.
        KeyboardInterrupt: Ctrl-C; the build has stopped.
    """
    trt = tensorrt_module(wanted.backend)
    log = make_log(trt)
    try:
        builder = trt.Builder(log)
    except TypeError:  # "factory function returned nullptr": the reason is in the log
        raise HybridStitchError(f"{wanted.backend} cannot start its builder: {log.first_error()}") from None
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    report(Progress("parsing"))
    if not parser.parse_from_file(str(graph.onnx_file)):
        raise HybridStitchError(_parser_trouble(graph, wanted, parser, log))
    config = _configure(trt, builder, graph, wanted, options)
    monitor = make_monitor(trt, report)
    config.progress_monitor = monitor
    plan = interruptible(lambda: builder.build_serialized_network(network, config), monitor.cancel)
    if plan is None:
        raise HybridStitchError(_builder_trouble(graph, wanted, options, log))
    file = workspace / f"plan-{wanted.key[:12]}.plan"
    with writing(workspace.parent):
        file.write_bytes(memoryview(plan))
    if options.timing_cache is not None:
        _keep_timing_cache(config, options.timing_cache, report)
    return {"plan": file}


def make_monitor(trt: Any, report: OnProgress) -> Any:
    """An IProgressMonitor that reports the outermost phases and can be cancelled."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self.steps: dict[str, int] = {}

        def cancel(self) -> None:
            self.cancelled = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps
                report(Progress(phase_name, 0, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                report(Progress(phase_name, step + 1, self.steps[phase_name]))
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            if steps := self.steps.pop(phase_name, None):
                report(Progress(phase_name, steps, steps))

    return Monitor()


def _strongly_typed(trt: Any) -> int:
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _configure(trt: Any, builder: Any, graph: Graph, wanted: Manifest, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    for profile in wanted.profiles:
        shapes = builder.create_optimization_profile()
        for name, (low, typical, high) in profile.shapes(graph.inputs).items():
            shapes.set_shape(name, low, typical, high)
        if config.add_optimization_profile(shapes) < 0:
            raise HybridStitchError(f"{wanted.backend} does not take profile {profile.name} of {graph.component}")
    if options.workspace_gib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * 2**30))
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.weight_streaming:
        config.set_flag(trt.BuilderFlag.WEIGHT_STREAMING)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible is not None:
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatible.upper(), None)
        if level is None:
            raise HybridStitchError(
                f"{wanted.backend} {wanted.backend_version} does not know hardware compatibility "
                f"{options.hardware_compatible}; later versions do"
            )
        config.hardware_compatibility_level = level
    if wanted.backend == "tensorrt_rtx":
        _set_targets(trt, config, wanted)
    if options.timing_cache is not None:
        cache = config.create_timing_cache(_known_timings(options.timing_cache))
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            raise HybridStitchError(
                f"timing cache {options.timing_cache} is none of {wanted.backend} {wanted.backend_version} on this "
                "GPU; choose another file"
            )
    return config


def _set_targets(trt: Any, config: Any, wanted: Manifest) -> None:
    """For the GPU that is here, or for those that were named: then the build needs none."""
    names = ("CURRENT",) if wanted.hardware.name != "any" else wanted.targets
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), index):
            raise HybridStitchError(f"{wanted.backend} {wanted.backend_version} does not build for {name}")


def _known_timings(file: Path) -> bytes:
    """What earlier builds measured; nothing before the first."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except OSError as failure:
        raise HybridStitchError(
            f"timing cache {file} cannot be read: {failure.strerror}; choose another file"
        ) from None


def _keep_timing_cache(config: Any, file: Path, report: OnProgress) -> None:
    """A cache that cannot be written is no reason to lose the plan."""
    space = file.with_name(f"{file.name}.new")
    try:
        space.write_bytes(memoryview(config.get_timing_cache().serialize()))
        space.replace(file)
    except OSError as failure:
        report(Progress(f"{file} cannot be written: {failure.strerror}"))
        remove([space])


def _parser_trouble(graph: Graph, wanted: Manifest, parser: Any, log: Any) -> str:
    """The parser's first error. Nodes are named after the module that they come from."""
    title = f"{wanted.backend} {wanted.backend_version} cannot take the {graph.component} graph"
    if not parser.num_errors:
        return f"{title}: {log.first_error()}"
    error = parser.get_error(0)
    more = f" ({parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    reason = " ".join(error.desc().split()).rstrip(".")
    module = error.node_name().rpartition("/")[0]
    place = f"node {error.node_name()} ({error.node_operator()}" + (f" of module {module})" if module else ")")
    return f"{title}: {place if error.node_name() else 'the model'}: {reason}{more}"


def _builder_trouble(graph: Graph, wanted: Manifest, options: BuildOptions, log: Any) -> str:
    errors = log.errors()
    memory = next((text for text in errors if _MEMORY_TROUBLE.search(text)), None)
    if memory is None:
        return f"{wanted.backend} could not build {graph.component}: {log.first_error()}"
    limit = f"a workspace of {options.workspace_gib:g} GiB" if options.workspace_gib else "no workspace limit"
    return (
        f"not enough memory to build {graph.component} with {wanted.backend}: {free_memory()} free, "
        f"{graph.weight_bytes / 2**30:.1f} GiB of weights, {limit}; lower the recipe's batch_sizes or sizes, close "
        f"what else uses the memory, or raise --workspace if it is the limit ({' '.join(memory.split())})"
    )


def free_memory() -> str:
    """What is free where a builder works, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.mem_get_info()[0] / 2**30:.1f} GiB of GPU memory"
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return f"{int(available.split()[1]) / 2**20:.1f} GiB of host memory"
    except (OSError, StopIteration, ValueError, IndexError):
        return "an unknown amount"
