"""What the settings of the method are called over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HTTP_NAMES = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
"""Settings that have another name over HTTP, the one that diffusers and other servers know; the rest keep theirs."""


def http_name(name: str) -> str:
    """The name over HTTP of a setting, or of an argument of `HybridStitch`."""
    return HTTP_NAMES.get(name, name)


def over_http(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names that they have over HTTP."""
    return {http_name(name): value for name, value in settings.items()}
