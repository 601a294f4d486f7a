"""Which websites' scripts may ask this server: cross-origin resource sharing (https://fetch.spec.whatwg.org)."""

from __future__ import annotations

import re
from typing import Any

from hybridstitch.method.errors import HybridStitchError, shown

ANY = "*"
PORTS = {"http": 80, "https": 443}
ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")

RULES: dict[str, Any] = {
    "allow_methods": ("GET", "HEAD", "POST"),
    "allow_headers": (ANY,),  # OpenAI's client in a browser sends a dozen of its own beside Authorization
    "allow_credentials": False,  # no cookies here: a key is in the Authorization header, which the script itself sets
    "expose_headers": ("Retry-After", "WWW-Authenticate", "x-request-id"),
    "max_age": 600,
}
"""What the sites that are allowed may do, as Starlette's CORSMiddleware takes it."""


def origin(text: str) -> str:
    """An origin as browsers write it: in lower case, without the scheme's own port; or *, any.

    Raises:
        HybridStitchError: it is none.
    """
    if text == ANY:
        return text
    match = ORIGIN.fullmatch(text.lower())
    port = int(match["port"]) if match is not None and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise HybridStitchError(
            f"--cors-origin {shown(text, 80)} is no origin: write SCHEME://HOST or SCHEME://HOST:PORT, such as "
            "https://studio.example, without a path, or * for any"
        )
    site = f"{match['scheme']}://{match['host']}"
    return site if port in (None, PORTS.get(match["scheme"])) else f"{site}:{port}"
