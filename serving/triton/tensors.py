"""The tensors of a model in Triton: what a request may say, every setting of the method among it, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import METHODS, SETTINGS, Setting

PIXELS = (-1, -1, 3)


@dataclass(frozen=True)
class ModelTensor:
    """An input or an output. data_type, dims: as config.pbtxt has them, -1 where a length is free."""

    name: str
    data_type: str
    help: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False


class Array(Protocol):
    """A numpy array, of any version."""

    @property
    def size(self) -> int: ...

    def item(self) -> Any: ...


def _of_setting(name: str, setting: Setting) -> ModelTensor:
    """A setting that is a number or `off` is text, as on the command line: no number of a tensor says `off`."""
    words = "|".join(setting.choices) or setting.metavar
    types = {int: "TYPE_INT64", float: "TYPE_FP64", str: "TYPE_STRING"}
    data_type = "TYPE_STRING" if setting.off else types[setting.kind]  # 64 bits: 3.3 is what `run` makes of 3.3
    methods = "" if setting.methods == METHODS else f" ({', '.join(setting.methods)})"
    return ModelTensor(name, data_type, f"{words}: {setting.help}{methods}", optional=True)


# Not even the prompt is required of Triton, which would refuse a request without it in words of its own, or not at all:
# it counts the inputs that are there.
INPUTS = (
    ModelTensor("prompt", "TYPE_STRING", "what to draw; required", optional=True),
    ModelTensor("negative_prompt", "TYPE_STRING", "what to steer away from", optional=True),
    ModelTensor("seed", "TYPE_INT64", "of the noise; left out: a random one, which the answer tells", optional=True),
    ModelTensor("size", "TYPE_STRING", "WxH in pixels, one of the recipe's", optional=True),
    ModelTensor("method", "TYPE_STRING", "|".join(METHODS), optional=True),
    *(_of_setting(name, setting) for name, setting in SETTINGS.items()),
)
PREVIEWS = ModelTensor("previews", "TYPE_INT64", "0 to 3 of the steps, evenly spread, have a preview", optional=True)

OUTPUTS = (
    ModelTensor("image", "TYPE_UINT8", "the picture, [H, W, RGB]", PIXELS),
    ModelTensor("png", "TYPE_STRING", "the file that `run` writes of it"),
    ModelTensor("seed", "TYPE_INT64", "of its noise"),
    ModelTensor("method", "TYPE_STRING", "that drew it"),
    ModelTensor("timing", "TYPE_STRING", "JSON: seconds of waiting, of each of its stages, of decode, total"),
)
PROGRESS = (
    ModelTensor("step", "TYPE_INT64", "steps that are done; 0: it has begun"),
    ModelTensor("last_step", "TYPE_INT64", "steps of them all"),
    ModelTensor("stage", "TYPE_STRING", "large, hybrid or small"),
    ModelTensor("preview", "TYPE_UINT8", "the picture as it would be by now, [H, W, RGB]", PIXELS),
)


def inputs(*, decoupled: bool) -> tuple[ModelTensor, ...]:
    return (*INPUTS, PREVIEWS) if decoupled else INPUTS


def outputs(*, decoupled: bool) -> tuple[ModelTensor, ...]:
    return (*OUTPUTS, *PROGRESS) if decoupled else OUTPUTS


def read(given: Mapping[str, Array]) -> dict[str, Any]:
    """What a request says, by name, for `Service.resolve` and `submit`; what was left out is not in it.

    Args:
        given: arrays of one element each; text is UTF-8 bytes.

    Raises:
        HybridStitchError: another number of elements, text that is none, or a setting that it does not take.
    """
    for name, array in given.items():
        if array.size != 1:
            raise HybridStitchError(f"{name} must have one element, not {array.size}")
    return {name: _value(name, array.item()) for name, array in given.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise HybridStitchError(f"{name} is not UTF-8 text") from None
    setting = SETTINGS.get(name)
    if setting is None:
        return value
    return setting.parsed(value) if setting.off else setting.checked(value)
