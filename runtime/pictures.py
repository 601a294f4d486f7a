"""Pictures: from decoded tensors to PNG files that say how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydantic import ConfigDict, ValidationError, create_model
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import LATER, SETTINGS, Method
from hybridstitch.pairs.recipe import first_problem

METADATA_KEY = "hybridstitch"


_SETTINGS: dict[str, Any] = {
    name: (setting.kind | None if setting.off else setting.kind, LATER.get(name, ...))
    for name, setting in SETTINGS.items()
}
_Made = create_model(
    "_Made",
    __doc__="What must be in a picture's file to draw it again; ranges are checked as for any other run.",
    __config__=ConfigDict(strict=True),
    prompt=str,
    negative_prompt=str,
    seed=int,
    size=str,
    method=Method,
    pair=str,
    **_SETTINGS,
)


def to_pictures(decoded: Tensor) -> list[Image.Image]:
    """[B, 3, H, W] in -1..1 -> 8-bit RGB, rounded as diffusers does."""
    values = (decoded.float() / 2).add_(0.5).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return [Image.fromarray(picture) for picture in values.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def refined_overlay(picture: Image.Image, refined: Tensor) -> Image.Image:
    """The picture with the refined region shown over it.

    refined: [rows, columns], the share of the hybrid steps in which the large model computed each token. What it
    never computed is darkened and greyed; the border of what it did is outlined.
    """
    share = np.array(
        Image.fromarray(refined.cpu().numpy().astype("float32")).resize(picture.size, Image.Resampling.NEAREST)
    )
    colour = np.asarray(picture, dtype="float32")
    grey = colour.mean(axis=2, keepdims=True) * 0.45 + 20
    shown = np.where(share[..., None] > 0, colour * (0.5 + 0.5 * share[..., None]), grey)
    inside = share > 0
    edge = np.zeros_like(inside)
    edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    edge[1:, :] |= inside[1:, :] != inside[:-1, :]
    shown[edge] = (118, 185, 0)
    return Image.fromarray(shown.clip(0, 255).astype("uint8"))


def encode_png(picture: Image.Image, metadata: Mapping[str, Any]) -> bytes:
    """A PNG file whose text chunks hold the metadata: each value by itself, for people and other programs, and all of
    it as JSON under `hybridstitch`."""
    file = BytesIO()
    picture.save(file, format="PNG", pnginfo=_chunks(metadata))
    return file.getvalue()


def _chunks(metadata: Mapping[str, Any]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        chunks.add_itxt(key, value if isinstance(value, str) else json.dumps(value))
    chunks.add_itxt(METADATA_KEY, json.dumps(dict(metadata)))
    return chunks


def read_metadata(path: Path) -> dict[str, Any]:
    """What `encode_png` put into a file.

    Raises:
        HybridStitchError: no such file, no PNG, or not one of ours.
    """
    try:
        with Image.open(path) as picture:
            content = json.loads(picture.info[METADATA_KEY])
        _Made.model_validate(content)
    except OSError as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error.strerror or error
        raise HybridStitchError(f"cannot read {path}: {reason}") from None
    except ValidationError as error:
        raise HybridStitchError(f"{path} does not say how it was made: {first_problem(error)}") from None
    except (KeyError, ValueError, TypeError, RecursionError):
        raise HybridStitchError(f"{path} does not say how it was made: it is no picture of hybridstitch-trt") from None
    return content
