"""What can go wrong with an HTTP request, in the form that OpenAI's clients read.

{"error": {"message": one line, "type": ..., "param": the parameter or null, "code": one of ERRORS}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving.errors import Cancelled, Closed, QueueFull, TimedOut

from .names import http_name

RETRY_AFTER = 5
"""Seconds after which a client that was sent away may come again."""


@dataclass(frozen=True)
class Kind:
    """status: of the HTTP answer. when: in words. passes: whether the same request may go well later."""

    status: int
    when: str
    passes: bool = False

    @property
    def type(self) -> str:
        """OpenAI's coarser word for it."""
        if self.status >= 500:
            return "server_error"
        return "rate_limit_error" if self.status == 429 else "invalid_request_error"


ERRORS: dict[str, Kind] = {
    "invalid_json": Kind(400, "the body is no JSON object, or is not said to be `application/json`"),
    "missing_parameter": Kind(400, "there is no prompt"),
    "unknown_parameter": Kind(400, "a parameter that nobody knows; the message lists those that are known"),
    "invalid_value": Kind(400, "a value of the wrong type or out of range, or what these engines do not draw"),
    "invalid_api_key": Kind(401, "the key is missing or wrong (`--api-key-file`)"),
    "unknown_url": Kind(404, "no such address; editing pictures is not offered"),
    "model_not_found": Kind(404, "a model that is not served here; `GET /v1/models` names the one that is"),
    "method_not_allowed": Kind(405, "the address takes another method"),
    "timed_out": Kind(408, "no picture within `--timeout`", passes=True),
    "request_too_large": Kind(413, "the body is over 256 KiB"),
    "queue_full": Kind(429, "as many requests wait as may (`--max-queue`)", passes=True),
    "headers_too_large": Kind(431, "the headers and the address are over 32 KiB together"),
    "cancelled": Kind(499, "the client went away; in the log only"),
    "not_drawn": Kind(500, "the picture went wrong: its numbers, or the engines"),
    "internal_error": Kind(500, "a bug; the log has the traceback"),
    "not_ready": Kind(503, "the engines are loading or failing or lost, or the server is stopping", passes=True),
}
"""Every error by its code."""


class ApiError(Exception):
    """An answer that is an error.

    code: one of ERRORS. param: the parameter that is to blame, if it is one.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param
        self.kind = ERRORS[code]

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind.type, "param": self.param, "code": self.code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        if self.kind.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": str(RETRY_AFTER)} if self.kind.passes else {}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """What an error looks like."""

    error: ErrorDetail


def of_admission(error: HybridStitchError) -> ApiError:
    """Of a request that was not taken: refused for what it asks, or for want of room."""
    if isinstance(error, QueueFull):
        return ApiError("queue_full", str(error))
    return ApiError("not_ready", str(error)) if isinstance(error, Closed) else of_value(error)


def of_value(error: HybridStitchError) -> ApiError:
    """Of a value that is refused, with the parameter that is to blame by its name over HTTP."""
    return ApiError("invalid_value", str(error), error.parameter and http_name(error.parameter))


def of_drawing(error: HybridStitchError) -> ApiError:
    """Of a request that was taken and became no picture."""
    codes = {TimedOut: "timed_out", Cancelled: "cancelled", Closed: "not_ready"}
    return ApiError(next((code for kind, code in codes.items() if isinstance(error, kind)), "not_drawn"), str(error))


def of_validation(problems: Sequence[Any], parameters: Sequence[str]) -> ApiError:
    """Of a body that pydantic refused; an unknown parameter first, since it is often a missing one, misspelt."""
    problem = next((entry for entry in problems if entry["type"] == "extra_forbidden"), problems[0])
    names = [part for part in problem["loc"] if part != "body"]
    if problem["type"] == "value_error" and not names:  # of several parameters together
        return of_value(problem["ctx"]["error"])
    if problem["type"] == "json_invalid" or not names:
        return ApiError(
            "invalid_json", "the body must be a JSON object, sent with the header Content-Type: application/json"
        )
    name = str(names[0])
    if problem["type"] == "extra_forbidden":
        return ApiError(
            "unknown_parameter", f"unknown parameter {name!r:.80}; known: {', '.join(parameters)}", f"{name:.80}"
        )
    if problem["type"] == "missing":
        return ApiError("missing_parameter", f"{name} is missing: say what to draw", name)
    message = problem["msg"].removeprefix("Value error, ")
    return ApiError("invalid_value", message if problem["type"] == "value_error" else f"{name}: {message}", name)


def of_routing(error: HTTPException, path: str) -> ApiError:
    """Of an address or a method that there is not."""
    if error.status_code == 405:
        return ApiError("method_not_allowed", f"{path:.80} takes another method")
    if error.status_code == 404:
        return ApiError("unknown_url", f"there is no {path:.80}; GET /openapi.json lists what there is")
    return ApiError("invalid_json", "the body cannot be read as JSON")
