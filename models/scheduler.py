"""The scheduler of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError


def load_scheduler(folder: Path) -> Any:
    """The FlowMatchEulerDiscreteScheduler of a checkpoint's `scheduler` folder.

    Raises:
        HybridStitchError: no scheduler there, or one of another kind: the sampler takes plain Euler steps.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler  # a slow import

    try:
        config: Any = FlowMatchEulerDiscreteScheduler.load_config(str(folder), local_files_only=True)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise HybridStitchError(f"no scheduler can be read from {folder}: {reason}") from None
    kind = config.get("_class_name")
    if kind != "FlowMatchEulerDiscreteScheduler":
        raise HybridStitchError(f"{folder} holds a {kind}; SD3 models are drawn with FlowMatchEulerDiscreteScheduler")
    if config.get("stochastic_sampling"):
        raise HybridStitchError(f"{folder} asks for stochastic sampling, which this runtime does not do")
    return FlowMatchEulerDiscreteScheduler.from_config(config)
