"""What our code touches of TensorRT's Python API, read from the code itself.

    python -m tests.engines.touched MODULE_FOLDER MODULE ...

checks each dotted name that follows against a module, and prints those that it lacks.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

ENGINES = Path(__file__).parents[2] / "engines"
SOURCES = ("tensorrt_module.py", "builders/tensorrt_child.py", "executors/tensorrt_engine.py")
RTX_ALONE = {"_check_targets"}  # functions that TensorRT itself never runs
CLASSES = {
    "trt": "",
    "self.trt": "",
    "self.engine.trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "runtime": "Runtime",
    "self._runtime": "Runtime",
    "opened": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "execution": "IExecutionContext",
    "self._execution": "IExecutionContext",
    "levels": "ILogger.Severity",
    "config.get_timing_cache()": "ITimingCache",
}
"""What the names in our code stand for."""
THROUGH_POLYGRAPHY = {
    *("Builder.create_network", "Builder.create_optimization_profile", "Builder.build_serialized_network"),
    *("INetworkDefinition.get_input", "ITensor.is_shape_tensor", "IOptimizationProfile.set_shape"),
    *("NetworkDefinitionCreationFlag.STRONGLY_TYPED", "init_libnvinfer_plugins", "Logger.INTERNAL_ERROR"),
    *("BuilderFlag.TF32", "BuilderFlag.VERSION_COMPATIBLE", "BuilderFlag.WEIGHT_STREAMING", "DeviceType.DLA"),
    *(f"IBuilderConfig.{name}" for name in ("add_optimization_profile", "set_flag", "set_memory_pool_limit")),
    *(f"IBuilderConfig.{name}" for name in ("builder_optimization_level", "hardware_compatibility_level")),
    *(f"IBuilderConfig.{name}" for name in ("profiling_verbosity", "progress_monitor", "DLA_core")),
}
"""What Polygraphy needs for the loaders and the options that our builder uses."""


def touched(*, rtx: bool) -> set[str]:
    """Dotted names, such as "IBuilderConfig.set_flag" and "BuilderFlag.WEIGHT_STREAMING"."""
    from hybridstitch.engines.builders.options import BuildOptions

    names = set(THROUGH_POLYGRAPHY)
    for source in SOURCES:
        for node in _nodes(ast.parse((ENGINES / source).read_text()), skip=set() if rtx else RTX_ALONE):
            if isinstance(node, ast.Attribute):
                owner = CLASSES.get(ast.unparse(node.value))
                if owner is not None:
                    names.add(f"{owner}.{node.attr}".lstrip("."))
                elif "trt" in (path := ast.unparse(node).split("."))[:-1]:
                    names.add(".".join(path[path.index("trt") + 1 :]))
    levels = next(kind for kind in get_args(get_type_hints(BuildOptions)["hardware_compatible"]) if get_args(kind))
    names |= {f"HardwareCompatibilityLevel.{level.upper()}" for level in get_args(levels)}
    return names


def _nodes(tree: ast.AST, skip: set[str]) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.FunctionDef) and node.name in skip):
            yield node
            yield from _nodes(node, skip)


def missing(module: object, names: set[str]) -> list[str]:
    """The names that a module does not have."""
    return sorted(name for name in names if not _has(module, name))


def _has(owner: object, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    print(*missing(importlib.import_module(sys.argv[2]), set(sys.argv[3:])))
