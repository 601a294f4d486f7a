"""config.pbtxt: what Triton reads of a model, and what the model reads of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from hybridstitch.serving.options import ServiceOptions, switch

from .tensors import ModelTensor, inputs, outputs

ENVIRONMENT = "EXECUTION_ENV_PATH"
"""The parameter by which Triton's Python backend finds the virtual environment that a model runs in."""


@dataclass(frozen=True)
class ModelOptions(ServiceOptions):
    """What a model of the repository draws with.

    engines: a folder; one that is relative lies in the model's own. end_server: whether the server ends when the
    model's process dies.
    """

    end_server: bool = switch(False, "end the whole server when the model's process dies")

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Self:
        """The options of a model's parameters; others are Triton's.

        Raises:
            HybridStitchError: as `ServiceOptions.parsed`.
        """
        return cls.parsed({name: text for name, text in parameters.items() if name in cls.table()})


def config_text(
    options: ModelOptions, *, gpus: Sequence[int] | None = None, environment: str | None = None, decoupled: bool = False
) -> str:
    """The text of config.pbtxt.

    Args:
        gpus: one instance for each; none in it: one for each that the server has; None: one on the CPU.
        environment: the virtual environment to run in; None: the Python that the server finds.
    """
    group = "kind: KIND_CPU count: 1"
    if gpus is not None:
        chosen = f" gpus: [ {', '.join(map(str, gpus))} ]" if gpus else ""
        group = f"kind: KIND_GPU count: 1{chosen}"
    parameters = options.texts() | ({ENVIRONMENT: environment} if environment else {})
    parts = [
        "# Written by `hybridstitch-trt triton`.",
        'backend: "python"',
        "# The service behind it queues and batches, so a request is one picture: see docs/triton.md.",
        "max_batch_size: 0",
        *(["model_transaction_policy { decoupled: true }"] if decoupled else []),
        f"instance_group [ {{ {group} }} ]",
        *(_port("input", port) for port in inputs(decoupled=decoupled)),
        *(_port("output", port) for port in outputs(decoupled=decoupled)),
        *(_parameter(key, value) for key, value in parameters.items()),
    ]
    return "\n".join(parts) + "\n"


def _port(kind: str, port: ModelTensor) -> str:
    optional = " optional: true" if port.optional else ""
    dims = ", ".join(map(str, port.dims))
    return f'# {port.help}\n{kind} {{ name: "{port.name}" data_type: {port.data_type} dims: [ {dims} ]{optional} }}'


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value, ensure_ascii=False)} }} }}'
