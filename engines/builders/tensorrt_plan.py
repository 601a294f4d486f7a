"""ONNX -> a TensorRT plan, by TensorRT (10.8 and later) or TensorRT for RTX: one plan holds all profiles.

Each plan is built in a child process (tensorrt_child.py): Polygraphy, which builds it, takes one of the two for a whole
process, and a builder that crashes or is killed for memory ends as one line.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import OnProgress, Progress

from .. import out_of_memory
from ..out_of_memory import OUT_OF_MEMORY
from ..store.manifest import Manifest
from ..tensorrt_module import require_tensorrt
from .child import Ending, run_child
from .exported_graph import Graph
from .options import BuildOptions
from .tensorrt_job import Job

COMMAND = (sys.executable, "-P", "-m", "hybridstitch.engines.builders.tensorrt_child")
_MEMORY_TROUBLE = re.compile(
    rf"{OUT_OF_MEMORY.pattern}|insufficient workspace|Could not find any implementation for node", re.IGNORECASE
)


def build_tensorrt(
    graph: Graph, manifest: Manifest, workspace: Path, options: BuildOptions, report: OnProgress
) -> dict[str, Path]:
    """Build one component's plan in `workspace`.

    Args:
        manifest: what to fulfil: backend, targets, profiles.
        report: the builder's progress.

    Raises:
        HybridStitchError: TensorRT is missing or does not load, a node that it does not support, not enough memory, a
            timing cache that cannot be read, a plan that cannot be written, whatever else the builder gave as its
            reason, or a builder that was killed or crashed.
        KeyboardInterrupt: Ctrl-C; the build has stopped.
    """
    file = workspace / f"plan-{manifest.key[:12]}.plan"
    job = _job(graph, manifest, options, file)
    outcome: dict[str, Any] = {}

    def hear(event: dict[str, Any]) -> None:
        if "progress" in event:
            report(Progress(*event["progress"]))
        else:
            outcome.update(event)

    ending = run_child(COMMAND, _environment(manifest.backend), job.as_line(), hear)
    if "refused" in outcome:
        raise HybridStitchError(outcome["refused"])
    if "errors" in outcome:
        raise HybridStitchError(_builder_trouble(graph, manifest, options, outcome["errors"]))
    if "built" not in outcome:
        raise HybridStitchError(_end_trouble(graph, manifest, options, ending))
    return {"plan": file}


def _job(graph: Graph, manifest: Manifest, options: BuildOptions, file: Path) -> Job:
    targets = ("CURRENT",) if manifest.hardware.name != "any" else manifest.targets
    return Job(
        component=manifest.name,
        backend=manifest.backend,
        title=require_tensorrt(manifest.backend).title,
        version=manifest.backend_version,
        onnx_file=str(graph.onnx_file.absolute()),
        plan_file=str(file.absolute()),
        profiles={profile.name: profile.shapes(graph.inputs) for profile in manifest.profiles},
        targets=targets if manifest.backend == "tensorrt_rtx" else (),
        workspace=int(options.workspace_gib * 2**30) if options.workspace_gib is not None else None,
        optimization_level=options.optimization_level,
        timing_cache=str(options.timing_cache.absolute()) if options.timing_cache is not None else None,
        weight_streaming=options.weight_streaming,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
    )


def _environment(backend: str) -> dict[str, str]:
    """The child's: which TensorRT Polygraphy takes, and as its first GPU the one that is current here."""
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1" if backend == "tensorrt_rtx" else "0"}
    if torch.cuda.is_available() and (current := torch.cuda.current_device()):
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        environment["CUDA_VISIBLE_DEVICES"] = visible[current] if visible else str(current)
    return environment


def _builder_trouble(graph: Graph, manifest: Manifest, options: BuildOptions, errors: list[str]) -> str:
    """Why there is no plan, from what the builder said."""
    memory = next((text for text in errors if _MEMORY_TROUBLE.search(text)), None)
    if memory is None:
        reason = " ".join(errors[0].split()) if errors else "it gave no reason"
        return f"{manifest.backend} could not build {manifest.name}: {reason}"
    limit = f"a workspace of {options.workspace_gib:g} GiB" if options.workspace_gib else "no workspace limit"
    return (
        f"not enough memory to build {manifest.name} with {manifest.backend}: {free_memory()} free, "
        f"{_weights(graph)}, {limit}; lower the recipe's batch_sizes or sizes, close "
        f"what else uses the memory, or raise --workspace if it is the limit ({' '.join(memory.split())})"
    )


def _end_trouble(graph: Graph, manifest: Manifest, options: BuildOptions, ending: Ending) -> str:
    """Why there is no plan, where the builder could not say it any more."""
    if ending.code == -signal.SIGKILL:
        return (
            f"the builder of {manifest.backend} was killed while it built {manifest.name}, most likely by the system "
            f"for lack of memory: {free_host_memory()} free now, {_weights(graph)}; close what else uses the memory, "
            "or lower the recipe's batch_sizes or sizes"
        )
    if _MEMORY_TROUBLE.search(ending.printed):
        return _builder_trouble(graph, manifest, options, [_last_line(ending)])
    how = f"crashed ({signal.Signals(-ending.code).name})" if ending.code < 0 else f"ended (exit code {ending.code})"
    return f"the builder of {manifest.backend} {how} while it built {manifest.name}: {_last_line(ending)}"


def _last_line(ending: Ending) -> str:
    lines = ending.printed.split("\n")
    return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "it gave no reason")


def _weights(graph: Graph) -> str:
    return f"{graph.weight_bytes / 2**30:.1f} GiB of weights"


def free_memory() -> str:
    """What is free where a builder works, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.mem_get_info()[0] / 2**30:.1f} GiB of GPU memory"
    return free_host_memory()


def free_host_memory() -> str:
    """What is free of the machine's memory, in words."""
    free = out_of_memory.free_host_memory()
    return "an unknown amount" if free is None else f"{free / 2**30:.1f} GiB of host memory"
