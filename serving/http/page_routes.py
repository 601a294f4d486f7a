"""The page to draw on, and the files that it is made of: no request of the page goes to another server."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

FOLDER = Path(__file__).with_name("page")
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}
PARTS = {path.name: path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES}
"""What /page/NAME answers with, by name: a request names no path."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


@router.get("/page/{name}")
async def part(name: str) -> Response:
    if name not in PARTS:
        raise HTTPException(404)
    return FileResponse(PARTS[name], media_type=MEDIA_TYPES[PARTS[name].suffix], headers=HEADERS)
