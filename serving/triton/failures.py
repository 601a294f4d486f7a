"""How a refused request becomes a failure in tritonserver's own count, nv_inference_request_failure.

The Python backend reports a request as failed only where `execute` fails as a whole; a response that holds an error
counts as a success. Where `execute` fails, the client gets a 500 with a traceback, unless the request already has its
final response. So a refusal is sent first, with its own status, and `execute` fails after it. (src/python_be.cc and
src/pb_stub.cc of triton-inference-server/python_backend, tried with 2.51.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # the server has it

OLDEST = (2, 51)
"""The first tritonserver that this was tried with."""


def count_as_failed(refusals: Sequence[Any], *, decoupled: bool) -> list[Any] | None:
    """What `execute` returns of requests that it took in.

    Args:
        refusals: for each request the response that refused it, which has been sent, or None.

    Raises:
        TritonModelException: of a decoupled model, whose refused request is to be counted.
    """
    if len(refusals) != 1 or refusals[0] is None or not _server_counts():
        return None
    if decoupled:
        raise pb_utils.TritonModelException(f"refused: {refusals[0].error().message()}")
    # Not raised here: the backend would then free the request's response factory twice, and crash. It refuses a second
    # response instead, and knows that the factory is gone.
    return list(refusals)


def _server_counts() -> bool:
    """False: an older server, as NVIDIA's containers tell, which nobody has tried this with."""
    version = re.match(r"(\d+)\.(\d+)", os.environ.get("TRITON_SERVER_VERSION", ""))
    return version is None or (int(version[1]), int(version[2])) >= OLDEST
