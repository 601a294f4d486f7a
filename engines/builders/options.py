"""The builder's options: what a user may turn, and which backend knows it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import whole

from ..backends import BACKENDS, find_backend

RTX_TARGETS = ("SM75", "SM80", "SM86", "SM89", "SM120")
"""The desktop and workstation GPUs that TensorRT for RTX builds for without having one: Turing to Blackwell."""


def rtx_targets(dtype: str) -> tuple[str, ...]:
    """Those of `RTX_TARGETS` that run models of this dtype: Turing (SM75) multiplies matrices in float16 alone."""
    return RTX_TARGETS if dtype == "float16" else RTX_TARGETS[1:]


@dataclass(frozen=True)
class BuildOptions:
    """How engines are built; what is None or False is left to the backend.

    workspace_gib: at most this much GPU memory for the builder's scratch space.
    optimization_level: 0 (quick build) to 5 (quick engine).
    compute_capabilities: build for these GPUs, as "SM89"; by default the GPU that is here, or, without one,
        `rtx_targets`.
    timing_cache: a file that keeps measured kernel times for the next build.
    weight_streaming: let the weights stay in host memory and pass them through the GPU.
    version_compatible: the plan also runs on later versions of the backend.
    hardware_compatible: the plan also runs on other GPUs: on all from Ampere on, or on all of the same compute
        capability.
    static_batch: one profile for each batch that the recipe names, instead of a range that holds them all.
    """

    workspace_gib: float | None = None
    optimization_level: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: Path | None = None
    weight_streaming: bool = False
    version_compatible: bool = False
    hardware_compatible: Literal["ampere_plus", "same_compute_capability"] | None = None
    static_batch: bool = False

    def check(self, backend: str) -> None:
        """Refuse what the backend does not have.

        Raises:
            HybridStitchError: an unknown backend, a value out of range, or an option of another backend, or a timing
                cache that cannot be read or written.
        """
        supported = _KNOWN[find_backend(backend).name]
        if self.workspace_gib is not None and self.workspace_gib <= 0:
            raise HybridStitchError(f"workspace must be over 0 GiB, not {self.workspace_gib:g}")
        if self.optimization_level is not None:
            whole("optimization level", self.optimization_level, range(6))
        for name, value in self._given().items():
            if name not in supported:
                has = ", ".join(sorted(supported)) or "none"
                raise HybridStitchError(f"backend {backend} has no option {name}; its options: {has}")
            if name == "timing_cache":
                _check_timing_cache(value)
            if name == "compute_capabilities" and (unknown := set(value) - set(_ALL_TARGETS)):
                raise HybridStitchError(
                    f"compute capability {sorted(unknown)[0]!r} is none that {backend} builds for: "
                    f"{', '.join(_ALL_TARGETS)}"
                )

    def as_json(self) -> dict[str, Any]:
        """What was given and changes the plan."""
        given = {name: value for name, value in self._given().items() if name != "timing_cache"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    def _given(self) -> dict[str, Any]:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, False, ())}


def _check_timing_cache(file: Path) -> None:
    """Hours of a build must not end at a file that could never be read or written."""
    if not file.parent.is_dir():
        raise HybridStitchError(f"timing cache {file}: there is no folder {file.parent}; make it first")
    if not os.access(file.parent, os.W_OK):
        raise HybridStitchError(f"timing cache {file}: {file.parent} cannot be written; choose another file")
    if file.exists() and not (file.is_file() and os.access(file, os.R_OK)):
        raise HybridStitchError(f"timing cache {file} is no file that can be read; choose another")


_ALL_TARGETS = BACKENDS["tensorrt_rtx"].targets
_BOTH = {"workspace_gib", "optimization_level", "weight_streaming", "static_batch"}
_KNOWN = {
    "onnxruntime": {"static_batch"},
    "torch": set(),
    "tensorrt": _BOTH | {"timing_cache", "version_compatible", "hardware_compatible"},
    "tensorrt_rtx": _BOTH | {"compute_capabilities"},
}
