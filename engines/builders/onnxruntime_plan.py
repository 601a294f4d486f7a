"""ONNX -> an optimized ONNX file, so that loading an engine does not optimize it anew.

Only optimizations that any CPU can run are stored; those of the CPU at hand (its blocked memory layouts) are cheap and
happen at load. Source: https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
"""

from __future__ import annotations

from pathlib import Path

from hybridstitch.method.errors import HybridStitchError

from ..backends import ONNXRUNTIME_QUIET
from ..store.disk import no_space
from .exported_graph import Graph
from .interrupt import interruptible

INLINE_BYTES = 1024  # larger tensors go to a file of their own: protobuf ends at 2 GiB
_DISK_TROUBLE = ("Failed to write external initializers", "Protobuf serialization failed", "No space left")


def build_onnxruntime(graph: Graph, workspace: Path, key: str) -> dict[str, Path]:
    """Optimize a component into files of `workspace` whose names carry `key`; returns them by role.

    Raises:
        HybridStitchError: no space left, a graph that ONNX Runtime does not take, or a dtype that it has no kernels for
            on a CPU.
        KeyboardInterrupt: Ctrl-C; the build has stopped.
    """
    import onnxruntime

    plan = workspace / f"plan-{key}.onnx"
    weights = plan.with_suffix(".weights")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONNXRUNTIME_QUIET
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(plan)
    external = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{external}_file_name", weights.name)
    options.add_session_config_entry(f"{external}_min_size_in_bytes", str(INLINE_BYTES))
    try:
        interruptible(
            lambda: onnxruntime.InferenceSession(str(graph.onnx_file), options, providers=["CPUExecutionProvider"]),
            cancel=lambda: options.set_load_cancellation_flag(True),
        )
    except Exception as error:  # its exceptions share no base class but this
        if any(line in str(error) for line in _DISK_TROUBLE):  # the workspace was writable a moment ago
            raise no_space(workspace.parent) from None
        raise HybridStitchError(_explain(graph, error)) from None
    return {"plan": plan, "weights": weights} if weights.is_file() else {"plan": plan}


def _explain(graph: Graph, error: Exception) -> str:
    text = " ".join(str(error).split())
    if type(error).__name__ == "NotImplemented":
        hint = "" if graph.dtype == "float32" else f" of dtype {graph.dtype}; export in float32 for it"
        return f"ONNX Runtime has no CPU kernel for the {graph.component} graph{hint}: {text}"
    if isinstance(error, MemoryError) or "alloc" in text:
        size = graph.weight_bytes / 2**30
        return f"not enough memory to build {graph.component}: its weights alone take {size:.1f} GiB ({text})"
    return f"ONNX Runtime refuses the {graph.component} graph: {text}"
