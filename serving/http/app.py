"""The HTTP application: routes, the page, and errors in one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from . import images, page_routes
from .errors import ApiError, ErrorBody, of_routing, of_validation
from .gate import Gate
from .head import Heads
from .origins import RULES
from .replies import error_reply, json_reply
from .schema import ImageRequest
from .server_state import ServerState


def create_app(state: ServerState, keys: Sequence[bytes] = (), origins: Sequence[str] = ()) -> FastAPI:
    """The application over a front whose service may still be loading.

    keys: see `Gate`. origins: websites whose scripts may ask it, see `origin`.
    """
    app = FastAPI(
        title="hybridstitch-trt",
        version=state.version,
        summary="Pictures by a large and a small model together, in the shape of OpenAI's images API.",
        redoc_url=None,
        redirect_slashes=False,  # it would send clients to whatever Host they name
    )
    app.state.server = state
    app.include_router(images.router)
    app.include_router(page_routes.router)
    _add_routes(app, state)
    _add_errors(app)
    app.add_middleware(Heads)
    app.add_middleware(Gate, keys=keys)
    if origins:  # outside of the gate: a preflight has no key, and its errors are for scripts to read too
        app.add_middleware(CORSMiddleware, allow_origins=origins, **RULES)
    return app


def _add_routes(app: FastAPI, state: ServerState) -> None:
    @app.get("/v1/models", summary="The pair that is served")
    async def models() -> Response:
        """One model, with its sizes, methods and their settings."""
        return json_reply({"object": "list", "data": [state.model]})

    @app.get("/v1/models/{name}", summary="The pair, by its name", responses={"default": {"model": ErrorBody}})
    async def model(name: str) -> Response:
        state.check_model(name)
        return json_reply(state.model)

    @app.get(
        "/health",
        summary="Whether the process is alive: a new one is needed where it is not",
        responses={503: {"model": ErrorBody}},
    )
    async def health() -> Response:
        state.check_alive()
        return json_reply({"status": "alive"})

    @app.get(
        "/ready",
        summary="Whether pictures can be had: a real inference succeeded lately",
        responses={503: {"model": ErrorBody}},
    )
    async def ready() -> Response:
        state.ready_service()
        return json_reply({"status": "ready"})

    counters = {200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}, "description": "Counters"}}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response, responses={**counters})
    async def metrics() -> Response:
        return Response(state.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _add_errors(app: FastAPI) -> None:
    parameters = list(ImageRequest.model_fields)

    def told(request: Request, error: ApiError) -> Response:
        request.state.log["code"] = error.code
        return error_reply(error)

    async def refused(request: Request, error: Any) -> Response:
        return told(request, error)

    async def invalid(request: Request, error: Any) -> Response:
        return told(request, of_validation(error.errors(), parameters))

    async def astray(request: Request, error: Any) -> Response:
        reply = told(request, of_routing(error, request.url.path))
        reply.headers.update(error.headers or {})
        if reply.headers.get("allow") == "GET":
            reply.headers["allow"] = "GET, HEAD"
        return reply

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, astray)
