"""A checkpoint's family is told from what it says of itself, and one that is not known is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.family import FAMILIES, family_of


def checkpoint(folder: Path, *, pipeline: str | None = None, transformer: str | None = None) -> Path:
    """A folder that holds nothing but what it says of itself."""
    if pipeline is not None:
        (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    if transformer is not None:
        (folder / "transformer").mkdir()
        (folder / "transformer" / "config.json").write_text(json.dumps({"_class_name": transformer}))
    return folder


def test_a_checkpoints_family_is_told_from_its_pipeline(tmp_path):
    assert family_of(checkpoint(tmp_path, pipeline="StableDiffusion3Img2ImgPipeline")).NAME == "Stable Diffusion 3"


def test_a_small_checkpoint_without_an_index_is_told_from_its_transformer(tmp_path):
    assert family_of(checkpoint(tmp_path, transformer="SD3Transformer2DModel")) is FAMILIES[0]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"pipeline": "FluxPipeline"}, "is a FluxPipeline, not a StableDiffusion3Pipeline"),
        (
            {"transformer": "FluxTransformer2DModel"},
            "transformer/config.json says FluxTransformer2DModel, not SD3Transformer2DModel",
        ),
        ({}, "is not a Stable Diffusion 3 checkpoint: a folder in diffusers' layout .* is needed"),
    ],
)
def test_a_family_that_is_not_known_is_refused_in_one_line(tmp_path, told, words):
    with pytest.raises(HybridStitchError, match=words) as caught:
        family_of(checkpoint(tmp_path, **told))
    assert str(caught.value).startswith(f"checkpoint {tmp_path}")
    assert "\n" not in str(caught.value)
