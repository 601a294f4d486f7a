"""One request of Triton's on its way through the service: from its tensors to its response."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # the server has it
from PIL import Image

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.result import Picture
from hybridstitch.serving.errors import Cancelled, Closed, QueueFull, ServingError, TimedOut
from hybridstitch.serving.picture_times import PictureTimes
from hybridstitch.serving.service import Service
from hybridstitch.serving.ticket import Ticket, Update

from .tensors import OUTPUTS, PREVIEWS, PROGRESS, read

logger = logging.getLogger(__name__)

Later = Callable[..., object]
"""Calls a function with arguments in another thread."""


class Call:
    """
    Args:
        encode: makes the PNG file of a picture. later: where pictures become responses, not to keep the thread that
            draws from the next. decoupled: whether it may have several responses.
    """

    def __init__(self, request: Any, encode: Callable[[Picture], bytes], later: Later, *, decoupled: bool) -> None:
        self._request, self._sender = request, request.get_response_sender()
        self._encode, self._later, self._decoupled = encode, later, decoupled
        self._wanted: set[str] = set(request.requested_output_names())
        self._times = PictureTimes()
        self._ticket: Ticket | None = None

    def submit(self, service: Service, longest: float | None) -> Any:
        """Hand the request to the service; whatever becomes of it is sent as its response.

        Args:
            longest: seconds that it may take, if it does not ask for less.

        Returns:
            The response, where it was refused at once.
        """
        try:
            given = read({tensor.name(): tensor.as_numpy() for tensor in self._request.inputs()})
            previews = given.pop(PREVIEWS.name, 0)
            if not service.ready:
                raise Closed(f"not ready: {service.problem}")
            request = service.resolve(**{"prompt": "", "seed": secrets.randbelow(2**32), **given})
            self._ticket = service.submit(
                request, timeout=self._timeout(longest), on_update=self._update, previews=previews
            )
        except Exception as error:
            return self._refuse(error)
        self._ticket.add_done_callback(lambda ticket: self._later(self._finish, ticket))
        return None

    def _timeout(self, longest: float | None) -> float | None:
        """Triton's own parameter is in microseconds, 0: none."""
        limits = [limit for limit in (self._request.timeout() / 1e6, longest) if limit]
        return min(limits, default=None)

    def _update(self, update: Update) -> None:
        self._times.step(update, time.monotonic())
        if self._ticket is not None and self._sender.is_cancelled():
            self._ticket.cancel()
        elif self._decoupled and self._wanted.intersection(port.name for port in PROGRESS):
            told = {"step": update.step, "last_step": update.steps, "stage": update.stage}
            self._send(told if update.preview is None else {**told, "preview": _pixels(update.preview)}, final=False)

    def _finish(self, ticket: Ticket) -> None:
        try:
            picture = ticket.result(0)
            makers: dict[str, Callable[[], Any]] = {
                "image": lambda: _pixels(picture.image),
                "png": lambda: self._encode(picture),
                "seed": lambda: picture.seed,
                "method": lambda: str(picture.parameters.method),
                "timing": lambda: json.dumps(self._times.finish(time.monotonic())),
            }
            self._send({name: make() for name, make in makers.items() if name in self._wanted}, final=True)
        except Exception as error:
            self._refuse(error)

    def _send(self, values: Mapping[str, Any], *, final: bool) -> None:
        tensors = [pb_utils.Tensor(name, _array(name, value)) for name, value in values.items() if name in self._wanted]
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        self._sender.send(pb_utils.InferenceResponse(tensors), flags=flags)

    def _refuse(self, error: Exception) -> Any:
        if not isinstance(error, HybridStitchError):
            logger.exception("a request failed", exc_info=error)
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(*_told(error)))
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return response


def _told(error: Exception) -> tuple[str, int]:
    """The line and Triton's code of an error."""
    if isinstance(error, QueueFull | Closed | TimedOut):
        return str(error), pb_utils.TritonError.UNAVAILABLE
    if isinstance(error, Cancelled):
        return str(error), pb_utils.TritonError.CANCELLED
    if isinstance(error, HybridStitchError) and not isinstance(error, ServingError):
        return str(error), pb_utils.TritonError.INVALID_ARG
    return str(error) or type(error).__name__, pb_utils.TritonError.INTERNAL


_DTYPES = {"TYPE_INT64": np.int64, "TYPE_UINT8": np.uint8, "TYPE_STRING": np.object_}
_TYPE_OF = {port.name: _DTYPES[port.data_type] for port in (*OUTPUTS, *PROGRESS)}


def _array(name: str, value: Any) -> np.ndarray:
    value = value.encode() if isinstance(value, str) else value
    return value if isinstance(value, np.ndarray) else np.array([value], dtype=_TYPE_OF[name])


def _pixels(image: Image.Image) -> np.ndarray:
    """[H, W, 3] in uint8."""
    return np.asarray(image.convert("RGB"))
