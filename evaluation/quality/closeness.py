"""How close a picture is to another."""

from __future__ import annotations

import numpy as np
from PIL import Image


def psnr(picture: Image.Image, reference: Image.Image) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, in dB; 168 for equal ones."""
    difference = np.asarray(picture, dtype=float) - np.asarray(reference, dtype=float)
    return float(10 * np.log10(255**2 / max(np.mean(difference**2), 1e-12)))
