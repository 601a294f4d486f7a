"""What every HTTP request passes before a route sees it: its size, its key, and a line in the log."""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybridstitch.method.errors import HybridStitchError

from .connections import MAX_HEAD
from .errors import ApiError
from .logs import log
from .replies import error_reply

MAX_BODY = 256 * 1024
"""Bytes; far more than the longest prompt that any encoder reads."""

LOGGED = 200
"""Characters of a method or path that the log has, at most."""

PROBES = ("/health", "/ready", "/metrics")
"""Asked every few seconds, and so left out of the log."""


def read_keys(path: Path) -> tuple[bytes, ...]:
    """API keys, one a line; empty lines and # lines are skipped.

    Raises:
        HybridStitchError: the file cannot be read or holds no key.
    """
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise HybridStitchError(f"--api-key-file {path}: {error.strerror}") from None
    keys = tuple(line for line in lines if line and not line.startswith(b"#"))
    if not keys:
        raise HybridStitchError(f"--api-key-file {path} holds no key: write one a line")
    return keys


class Gate:
    """ASGI middleware.

    keys: what /v1/... asks for as `Authorization: Bearer KEY`; none: it is open.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[bytes] = ()) -> None:
        self._app = app
        self._digests = [sha256(key).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, request_id, status = time.monotonic(), f"req_{uuid.uuid4().hex}", 0
        fields = scope.setdefault("state", {})["log"] = {}

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            try:
                _check_head(scope)
                self._check_key(scope)
                receive = await self._body(scope, receive)
            except ApiError as error:
                fields["code"] = error.code
                await error_reply(error)(scope, receive, answer)
                return
            await self._app(scope, receive, answer)
        except Exception:  # the traceback is the server's to log
            fields["code"] = "internal_error"
            if not status:
                bug = ApiError("internal_error", "the server has a bug: its log says more")
                await error_reply(bug)(scope, receive, answer)
            raise
        finally:
            if scope["path"] not in PROBES:
                log(
                    "request",
                    id=request_id,
                    method=scope["method"][:LOGGED],
                    path=scope["path"][:LOGGED],
                    status=status,
                    seconds=round(time.monotonic() - start, 4),
                    **fields,
                )

    def _check_key(self, scope: Scope) -> None:
        """
        Raises:
            ApiError: it asks for a key, and there is none or another. Every key is compared, in constant time.
        """
        if not self._digests or not scope["path"].startswith("/v1/"):
            return
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = sha256(key.strip().encode("latin-1")).digest()
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise ApiError("invalid_api_key", "send the API key of this server as Authorization: Bearer KEY")

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body, and give it again to whoever receives.

        Raises:
            ApiError: it is too large; no more than the limit is read.
        """
        length = Headers(scope=scope).get("content-length", "")
        body, more = bytearray(), not length.isdecimal() or int(length) <= MAX_BODY
        if not more:
            raise _too_large()
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return receive
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY:
                raise _too_large()
        messages: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return messages.pop() if messages else await receive()

        return again


def _check_head(scope: Scope) -> None:
    """
    Raises:
        ApiError: it is too long. The parser has let it through, if it came all at once.
    """
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    if size + sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD:
        raise ApiError("headers_too_large", f"headers and address are over {MAX_HEAD // 1024} KiB together")


def _too_large() -> ApiError:
    return ApiError("request_too_large", f"the body is over {MAX_BODY // 1024} KiB; a request needs far less")
