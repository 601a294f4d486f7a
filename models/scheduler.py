"""The scheduler of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.sigmas import noise_levels

_KIND = "FlowMatchEulerDiscreteScheduler"
_REFUSED = {
    "stochastic_sampling": "adds fresh noise in every step, which this runtime does not do",
    "invert_sigmas": "goes from pictures to noise, for models of another family",
}
_CURVES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
_STEPS, _TOKENS = 28, 4096  # of the run for which a scheduler is tried


def load_scheduler(folder: Path) -> Any:
    """The FlowMatchEulerDiscreteScheduler of a checkpoint's `scheduler` folder.

    Each of its options means what it means in diffusers, or is refused.

    Raises:
        HybridStitchError: no scheduler there, one of another kind (the sampler takes plain Euler steps), an option that
            no picture can be drawn with, or a value that the option does not take.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler  # a slow import
    from diffusers.utils.import_utils import is_scipy_available

    try:
        config: Any = FlowMatchEulerDiscreteScheduler.load_config(str(folder), local_files_only=True)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise HybridStitchError(f"no scheduler can be read from {folder}: {reason}") from None
    kind = config.get("_class_name")
    if kind != _KIND:
        raise HybridStitchError(f"{folder} holds a {kind}; SD3 models are drawn with {_KIND}")
    for option, what in _REFUSED.items():
        if config.get(option):
            raise HybridStitchError(f"{folder}: {option} {what}; set it to false")
    curves = [option for option in _CURVES if config.get(option)]
    if len(curves) > 1:
        raise HybridStitchError(f"{folder}: {' and '.join(curves)} are both set; choose one")
    if curves == ["use_beta_sigmas"] and not is_scipy_available():
        raise HybridStitchError(f"{folder}: use_beta_sigmas needs scipy; pip install scipy")
    try:
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
        noise_levels(scheduler, _STEPS, _TOKENS, torch.device("cpu"))
    except HybridStitchError as error:
        raise HybridStitchError(f"{folder}: {error}") from None
    except (ValueError, TypeError, ArithmeticError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise HybridStitchError(f"{folder}: its options give no noise levels: {reason}") from None
    return scheduler
