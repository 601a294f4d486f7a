"""Structural similarity, and learned perceptual distance where its weights are at hand."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(picture: Image.Image, reference: Image.Image) -> float:
    """Mean structural similarity of two 8-bit RGB pictures of one size, channel by channel; 1 for equal ones.

    A Gaussian window of 11 x 11 pixels with a standard deviation of 1.5, where it lies wholly inside the picture.
    Source: Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment, IEEE TIP 13(4), 2004.

    Raises:
        ValueError: the sizes differ, or are under 11 pixels.
    """
    if picture.size != reference.size or min(picture.size) < WINDOW:
        raise ValueError(f"one size of 11 pixels or more is needed, not {picture.size} and {reference.size}")
    first, second = (_channels(each) for each in (picture, reference))
    mean_1, mean_2 = _blurred(first), _blurred(second)
    spread_1 = _blurred(first * first) - mean_1**2
    spread_2 = _blurred(second * second) - mean_2**2
    shared = _blurred(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1**2 + mean_2**2 + C1)
    structure = (2 * shared + C2) / (spread_1 + spread_2 + C2)
    return float((luminance * structure).mean())


def find_lpips() -> Callable[[Image.Image, Image.Image], float] | None:
    """LPIPS with AlexNet, where the package `lpips` is installed and torch's cache holds AlexNet's weights; else None.
    Nothing is ever downloaded.

    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018.
    """
    weights = Path(torch.hub.get_dir()) / "checkpoints"
    if find_spec("lpips") is None or not any(weights.glob("alexnet-*.pth")):
        return None
    import lpips  # pyright: ignore[reportMissingImports]  # optional

    network = lpips.LPIPS(net="alex", verbose=False).eval()

    @torch.no_grad()
    def distance(picture: Image.Image, reference: Image.Image) -> float:
        first, second = ((_channels(each) / 127.5 - 1).float().permute(1, 0, 2, 3) for each in (picture, reference))
        return float(network(first, second))

    return distance


def _channels(picture: Image.Image) -> Tensor:
    """[3, 1, H, W], float64, 0 to 255."""
    return torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float64)).permute(2, 0, 1)[:, None]


def _blurred(channels: Tensor) -> Tensor:
    """[3, 1, H, W] -> [3, 1, H - 10, W - 10]."""
    steps = torch.arange(WINDOW, dtype=channels.dtype) - WINDOW // 2
    weights = torch.exp(-(steps**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(channels, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
