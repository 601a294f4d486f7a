"""What the demo pair never saw in training, and how well a picture shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.world.judge import Judge, accuracy_on_true_pictures, load_judge, verdicts
from hybridstitch.evaluation.world.scenes import caption, read_caption, render, sample_scene

FIRST_SEED = 1000
"""Of the scenes; training looks at others on its way."""
FIRST_TRUE, TRUE_PICTURES = 80_000, 1000
"""Of the true pictures that drawn ones are compared with."""
LEAST_ACCURACY = 0.98
"""In everything, on true pictures: a judge that is less right than that is not asked."""
SIDE = 128
"""Pixels of the pictures that the judge knows."""


def held_out_cases(count: int) -> list[PromptCase]:
    """Captions of the demo pair's world that it was never trained on; case k is always the same."""
    scenes = [sample_scene(FIRST_SEED + index, held_out_only=True) for index in range(count)]
    return [PromptCase(caption(scene), seed) for seed, scene in enumerate(scenes)]


def is_trusted(accuracy: Mapping[str, float]) -> bool:
    """Whether a judge of this accuracy may judge."""
    return all(share >= LEAST_ACCURACY for name, share in accuracy.items() if name != "all")


@dataclass(frozen=True)
class Judged:
    """What the judge says of a picture: `right`, of each attribute which objects have it right, and "all"; `features`
    [5, 128], what it sees at each side and of the scene."""

    right: dict[str, list[bool]]
    features: np.ndarray


class Probe:
    """The judge, asked about pictures. Ask `is_trusted` first."""

    def __init__(self, judge: Judge | None = None) -> None:
        self._judge = load_judge() if judge is None else judge

    def accuracy(self) -> dict[str, float]:
        """Its own, on 1,000 true pictures of scenes that nothing was trained on."""
        return accuracy_on_true_pictures(self._judge)

    @torch.inference_mode()
    def look(self, picture: Image.Image, prompt: str) -> Judged:
        """Raises ValueError for a prompt that is no caption of the world."""
        pixels = _pixels(picture)
        (right,) = verdicts(self._judge, pixels, [read_caption(prompt)])
        return Judged(right, self._judge.features(pixels)[0].numpy())

    @torch.inference_mode()
    def true_features(self) -> np.ndarray:
        """[1000, 128]: of the scene, in true pictures of other captions that nothing was trained on."""
        scenes = [sample_scene(FIRST_TRUE + index, held_out_only=True) for index in range(TRUE_PICTURES)]
        parts = (render(scenes[first : first + 64]) for first in range(0, TRUE_PICTURES, 64))
        return torch.cat([self._judge.features(part)[:, -1] for part in parts]).numpy()


def _pixels(picture: Image.Image) -> Tensor:
    """[1, 3, H, W], 0 to 1."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None] / 255
