"""What the child process that builds a TensorRT plan is told: one line of JSON.

Nothing here may import torch: the child does not need it, and it takes longer to import than all else together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

Shapes = Mapping[str, tuple[tuple[int, ...], ...]]
"""(smallest, typical, largest) shape of each input that has a dynamic dimension."""


@dataclass(frozen=True)
class Job:
    """One plan to build.

    backend, title, version: "tensorrt" or "tensorrt_rtx", its name in words, and the version that is installed.
    plan_file: where the plan goes; its folder is there.
    profiles: by name, in the plan's order.
    targets: the GPUs to build for, as "SM89", or "CURRENT" alone; none for TensorRT, which builds for the current one.
    workspace: limit of the builder's scratch memory, in bytes.
    The others are those of `BuildOptions`.
    """

    component: str
    backend: str
    title: str
    version: str
    onnx_file: str
    plan_file: str
    profiles: Mapping[str, Shapes]
    targets: tuple[str, ...] = ()
    workspace: int | None = None
    optimization_level: int | None = None
    timing_cache: str | None = None
    weight_streaming: bool = False
    version_compatible: bool = False
    hardware_compatible: str | None = None

    def as_line(self) -> str:
        """For `from_line`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Job:
        """The job that `as_line` wrote."""
        content = json.loads(line)
        return cls(**{**content, "targets": tuple(content["targets"])})
