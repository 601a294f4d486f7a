"""HEAD on every address that GET has: the same headers and no body, as monitors and proxies ask for them."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Heads:
    """ASGI middleware: asks the application for what GET gives, and keeps the body back.

    Done here, not by routes of their own, which would stand in /openapi.json beside each GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A copy: the server keeps the first one, and must go on knowing that it answers a HEAD.
        await self._app({**scope, "method": "GET"}, receive, without_body)
