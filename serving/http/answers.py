"""Pictures as HTTP gives them: files in base64, beside what says how they came about."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image
from pydantic import BaseModel, Field

from hybridstitch.runtime.pictures import encode_png


class StageTime(BaseModel):
    steps: int
    seconds: float


class PictureTiming(BaseModel):
    """Where a picture's time went, in seconds."""

    waiting: float = Field(description="In the queue, and until the text was encoded.")
    stages: dict[str, StageTime] = Field(description="large, hybrid, small: those that there were.")
    decode: float
    total: float


class ImageAnswer(BaseModel):
    """One picture."""

    b64_json: str
    seed: int = Field(description="Of its noise: send it to get the same picture again.")
    mask_b64_json: str | None = Field(default=None, description="With include_mask: a PNG.")
    timing: PictureTiming


class Tokens(BaseModel):
    image_tokens: int
    text_tokens: int


class Usage(BaseModel):
    """What OpenAI bills by; its clients' types demand it of each picture that a stream gives."""

    input_tokens: int
    input_tokens_details: Tokens
    output_tokens: int
    total_tokens: int


NO_TOKENS = Usage(
    input_tokens=0, input_tokens_details=Tokens(image_tokens=0, text_tokens=0), output_tokens=0, total_tokens=0
)
"""Nobody is billed by tokens here."""

QUALITY = "high"
"""One of the words that OpenAI's clients know in every answer; "auto" is for requests."""


class ImagesAnswer(BaseModel):
    """What POST /v1/images/generations gives."""

    created: int = Field(description="Seconds since 1970.")
    data: list[ImageAnswer]
    size: str
    output_format: str
    background: str = Field(description="Always opaque.")
    quality: str = Field(description=f"Always {QUALITY}: the settings of the method decide it.")
    usage: Usage = Field(description="Zeros: nobody is billed by tokens here.")


def encode(image: Image.Image, output_format: str, compression: int, metadata: Mapping[str, Any] | None = None) -> str:
    """The picture's file in base64.

    Args:
        output_format: png, jpeg or webp. compression: quality of the latter two, 0..100.
        metadata: what a PNG says of how it was made.
    """
    if output_format == "png" and metadata is not None:
        return base64.b64encode(encode_png(image, metadata)).decode()
    file = io.BytesIO()
    image.save(file, format=output_format.upper(), quality=compression)
    return base64.b64encode(file.getvalue()).decode()
