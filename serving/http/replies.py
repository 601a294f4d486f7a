"""Errors as HTTP answers and as server-sent events."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from .errors import ApiError


def json_reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON in ASCII: what a request holds may be no UTF-8, and is told back in errors."""
    return Response(json.dumps(content), status, headers, media_type="application/json")


def error_reply(error: ApiError) -> Response:
    return json_reply(error.body(), error.kind.status, error.headers())


def sent_event(name: str, content: Any) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()
