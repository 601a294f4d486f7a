"""The class that Triton's Python backend makes for each instance of a model."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # the server has it

from hybridstitch.engines.store.manifest import our_version
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.pictures import encode_png
from hybridstitch.runtime.result import Picture, settings_of
from hybridstitch.serving.service import Service

from .call import Call
from .config import ModelOptions
from .failures import count_as_failed
from .lifeline import end_when_done, end_with_server, hold_lifeline
from .metrics import show_metrics

RESPONDERS = 4
"""Threads in which pictures become files and responses."""


class TritonPythonModel:
    """A `Service` behind Triton. `execute` takes requests in and does not wait: the service queues and batches them,
    and each is answered by itself as soon as it is drawn."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the engines and draw a little of each size; the model is ready when this returns.

        Raises:
            TritonModelException: it cannot be served, in one line.
        """
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._decoupled = bool(config.get("model_transaction_policy", {}).get("decoupled"))
        device = f"cuda:{args['model_instance_device_id']}" if args["model_instance_kind"] == "GPU" else None
        self._taking = threading.Lock()
        self._responders = ThreadPoolExecutor(RESPONDERS, thread_name_prefix="respond")
        end_with_server()
        _require_arrays()
        try:
            options = ModelOptions.of(parameters)
            engines = Path(args["model_repository"]) / (options.engines or "")
            self._options = options = replace(options, engines=str(engines), device=device)
            self._service = Service.open(options, on_lost=self._end)
            self._pair = Recipe.load(options.pair).name
        except (HybridStitchError, TypeError, ValueError) as error:
            raise pb_utils.TritonModelException(str(error)) from None
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self._metrics = show_metrics(self._service, labels | {"instance": args["model_instance_name"]})
        self._let_go = hold_lifeline() if options.end_server else None

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Take requests in; each gets its response later, or at once when it is refused, which Triton counts."""
        refusals = []
        with self._taking:
            for request in requests:
                call = Call(request, self._png, self._responders.submit, decoupled=self._decoupled)
                refusals.append(call.submit(self._service, self._options.timeout))
        return count_as_failed(refusals, decoupled=self._decoupled)

    def finalize(self) -> None:
        """Finish what was taken; Triton sends nothing any more."""
        self._service.close()
        self._responders.shutdown()
        if self._metrics is not None:
            self._metrics.close()
        if self._let_go is not None:
            self._let_go()

    def _end(self, problem: str) -> None:
        """End this process, once what it has taken is answered, for the lifeline or the probe to notice."""
        with self._taking:  # so that no request is half taken
            end_when_done(self._responders.shutdown, problem)

    def _png(self, picture: Picture) -> bytes:
        return encode_png(picture.image, settings_of(picture, self._pair, self._options.backend, our_version()))


def _require_arrays() -> None:
    """Refuse a server whose Python backend reads this NumPy's arrays wrongly: it would die at the first text.

    Raises:
        TritonModelException: it does.
    """
    given = torch.arange(3, dtype=torch.uint8)
    if pb_utils.Tensor.from_dlpack("check", given).as_numpy().tolist() != given.tolist():
        raise pb_utils.TritonModelException(
            f"the Python backend of this Triton does not know NumPy {np.__version__}: take a newer Triton, or "
            f"`pip install 'numpy<2'` in {sys.prefix}"
        )
