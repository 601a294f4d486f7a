"""POST /v1/images/generations: pictures, all at the end or each as it comes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from hybridstitch.method.errors import HybridStitchError, blaming
from hybridstitch.method.numbers import whole_seed
from hybridstitch.runtime.request import Request as Wanted
from hybridstitch.runtime.result import settings_of
from hybridstitch.serving.interface import PictureService

from .answers import NO_TOKENS, QUALITY, ImagesAnswer, encode
from .errors import ERRORS, ApiError, ErrorBody, of_admission, of_drawing
from .pending_pictures import Advance, Drawn, PendingPictures
from .replies import json_reply, sent_event
from .schema import ImageFields, ImageRequest
from .server_state import ServerState

PING = 15.0
"""Seconds without an event after which a stream sends a comment, lest a proxy take it for dead."""

router = APIRouter()

_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": "; or ".join(k.when for k in ERRORS.values() if k.status == status)}
    for status in (400, 401, 404, 408, 413, 429, 500, 503)
} | {
    200: {"content": {"text/event-stream": {}}, "description": "pictures; or their events"},
    "default": {"model": ErrorBody, "description": "any other error"},  # else FastAPI promises its own, 422
}


@router.post("/v1/images/generations", response_model=ImagesAnswer, responses=_ANSWERS, summary="Draw pictures")
async def generate(request: Request, body: ImageRequest) -> Response:
    """Draw `n` pictures of a prompt, as OpenAI's images API does; `stream` sends them as server-sent events."""
    state: ServerState = request.app.state.server
    if body.model is not None:
        state.check_model(body.model)
    if (body.n or 1) > state.options.max_queue:
        raise ApiError("invalid_value", f"n must be at most {state.options.max_queue}: the queue holds no more", "n")
    service = state.ready_service()
    resolved = await _resolve(service, body)
    _note(request, state, resolved)
    try:
        order = PendingPictures(
            service,
            resolved,
            timeout=state.options.timeout,
            previews=(body.partial_images or 0) if body.stream else 0,
        )
    except HybridStitchError as error:
        raise of_admission(error) from None
    watch = asyncio.create_task(_cancel_when_gone(request, order))
    job = _Job(state, body, order, watch)
    if body.stream:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(job.events(request), media_type="text/event-stream", headers=headers)
    return json_reply(await job.answer())


@router.post("/v1/images/edits", include_in_schema=False)
@router.post("/v1/images/variations", include_in_schema=False)
async def edit() -> Response:
    raise ApiError("unknown_url", "pictures cannot be edited here, only drawn: POST /v1/images/generations")


async def _resolve(service: PictureService, body: ImageFields) -> list[Wanted]:
    """A request for each picture, of seeds that follow each other.

    Raises:
        ApiError: anything that can be refused before it runs.
    """
    images = body.n or 1
    given: dict[str, Any] = {"negative_prompt": body.negative_prompt, "size": body.size, "method": body.method}
    try:
        with blaming("seed"):
            seed = secrets.randbelow(2**32) if body.seed is None else whole_seed(body.seed, images)
        first = await run_in_threadpool(service.resolve, body.prompt, seed=seed, **given, **body.settings())
    except HybridStitchError as error:
        raise of_admission(error) from None
    if body.include_mask and not first.parameters.has_hybrid:
        message = f"include_mask: method {first.parameters.method!r} with these steps has no hybrid stage, so no mask"
        raise ApiError("invalid_value", message, "include_mask")
    return [replace(first, seed=seed + k) for k in range(images)]


def _note(request: Request, state: ServerState, resolved: list[Wanted]) -> None:
    """What the log line says of a request."""
    first = resolved[0]
    fields = {"n": len(resolved), "seed": first.seed, "size": str(first.size), "parameters": first.parameters.as_dict()}
    if state.log_prompts:
        fields |= {"prompt": first.prompt, "negative_prompt": first.negative_prompt}
    request.state.log.update(fields)


async def _cancel_when_gone(request: Request, order: PendingPictures) -> None:
    """Wait for the client to leave, and give its pictures up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    order.cancel()


@dataclass(frozen=True)
class _Job:
    """An order that is to be answered. watch: cancels it when the client leaves; to be ended with it."""

    state: ServerState
    body: ImageFields
    order: PendingPictures
    watch: asyncio.Task[None]

    async def answer(self) -> dict[str, Any]:
        """All pictures at once.

        Raises:
            ApiError: one that cannot be had; the others are given up.
        """
        drawn: dict[int, Drawn] = {}
        try:
            async for event in self.order.events():
                if isinstance(event, Drawn):
                    drawn[event.index] = event
        except HybridStitchError as error:
            raise of_drawing(error) from None
        finally:
            self.end()
        data = [await run_in_threadpool(self._image, drawn[index]) for index in sorted(drawn)]
        form = self._form(str(drawn[0].picture.size))
        return {"created": int(time.time()), "data": data, **form, "usage": NO_TOKENS.model_dump()}

    async def events(self, request: Request) -> AsyncIterator[bytes]:
        """Each preview and picture as it comes; an `error` event ends the stream where one cannot be had."""
        shown: Counter[int] = Counter()
        try:
            async for event in self.order.events(PING):
                if event is None:
                    yield b": still drawing\n\n"
                elif isinstance(event, Drawn):
                    image = await run_in_threadpool(self._image, event)
                    form = self._form(str(event.picture.size))
                    yield self._event("completed", event.index, {**image, **form, "usage": NO_TOKENS.model_dump()})
                else:
                    for chunk in await run_in_threadpool(self._advance, event, shown[event.index]):
                        yield chunk
                    shown[event.index] += event.update.preview is not None
        except HybridStitchError as error:
            refusal = of_drawing(error)
            request.state.log["code"] = refusal.code
            yield sent_event("error", refusal.body())
        finally:
            self.end()

    def end(self) -> None:
        self.watch.cancel()
        self.order.cancel()

    def _advance(self, event: Advance, shown: int) -> list[bytes]:
        update = event.update
        place = {"step": update.step, "steps": update.steps, "stage": update.stage}
        chunks = [self._event("progress", event.index, place)] if self.body.progress else []
        if update.preview is not None:
            preview = {"partial_image_index": shown, "b64_json": self._encode(update.preview), **place}
            chunks.append(self._event("partial_image", event.index, preview | self._form(_size_of(update.preview))))
        return chunks

    def _event(self, kind: str, index: int, content: dict[str, Any]) -> bytes:
        name = f"image_generation.{kind}"
        return sent_event(name, {"type": name, "created_at": int(time.time()), "image_index": index, **content})

    def _form(self, size: str) -> dict[str, Any]:
        output_format = self.body.output_format or "png"
        return {"size": size, "output_format": output_format, "background": "opaque", "quality": QUALITY}

    def _image(self, drawn: Drawn) -> dict[str, Any]:
        picture = drawn.picture
        made = settings_of(picture, self.state.recipe.name, self.state.options.backend, self.state.version)
        image = {"b64_json": self._encode(picture.image, made), "seed": picture.seed, "timing": drawn.timing}
        if self.body.include_mask:
            overlay = picture.overlay()  # None: adaptive switching found no hybrid step to be of use
            shows = {**made, "shows": "the region that the large model refined"}
            image["mask_b64_json"] = None if overlay is None else encode(overlay, "png", 100, shows)
        return image

    def _encode(self, image: Any, made: dict[str, Any] | None = None) -> str:
        compression = 100 if self.body.output_compression is None else self.body.output_compression
        return encode(image, self.body.output_format or "png", compression, made)


def _size_of(image: Any) -> str:
    return f"{image.width}x{image.height}"
