"""Draw held-out captions with every variant and note what each picture is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.variants import Variant
from hybridstitch.method.progress import OnProgress, Progress, silent
from hybridstitch.runtime.pipeline import HybridStitch

from .baselines import draw
from .closeness import psnr
from .held_out import Probe
from .records import Records
from .similarity import find_lpips, ssim


def evaluate(
    pipe: HybridStitch,
    large: Variant,
    variants: Sequence[Variant],
    cases: Sequence[PromptCase],
    records: Records,
    *,
    probe: Probe | None = None,
    seconds: float | None = None,
    progress: OnProgress = silent,
) -> int:
    """Draw what `records` do not have yet, case by case and variant by variant, so that a machine that slows down slows
    all of them; returns the number of cases that are complete.

    Args:
        large: whose picture every other is compared with; among the variants or not.
        probe: asked about every picture; None: the cases are no captions of the demo pair's world.
        seconds: begin no case after so many.

    Raises:
        HybridStitchError: a setting that does not fit, told before anything is drawn, or records that cannot be kept.
    """
    for variant in (large, *variants):
        for case in cases:
            pipe.resolve([case.prompt], seed=case.seed, **variant.settings)
    lpips, end = find_lpips(), None if seconds is None else time.monotonic() + seconds
    every = [large, *(variant for variant in variants if variant.name != large.name)]
    total, warm = len(cases) * len(every), False
    for number, case in enumerate(cases):
        missing = [variant for variant in every if records.find(variant, case) is None]
        if not missing:
            continue
        if end is not None and time.monotonic() > end:
            return number
        if not warm:
            for variant in every:
                progress(Progress(f"warm-up: {variant.name}", number * len(every), total))
                draw(pipe, variant, case)
            warm = True
        reference, spent = draw(pipe, large, case)
        for place, variant in enumerate(missing):
            progress(Progress(variant.name, number * len(every) + place, total))
            picture, took = (reference, spent) if variant == large else draw(pipe, variant, case)
            values = _compared(picture.image, reference.image) if variant != large else {}
            if lpips is not None and variant != large:
                values["lpips"] = lpips(picture.image, reference.image)
            if probe is not None:
                values |= _judged(probe, picture.image, reference.image, case.prompt)
            records.add(variant, case, {"seconds": round(took, 5), **values})
    progress(Progress("drawn", total, total))
    return len(cases)


def _compared(picture: Image.Image, reference: Image.Image) -> dict[str, Any]:
    return {"psnr": round(psnr(picture, reference), 4), "ssim": round(ssim(picture, reference), 5)}


def _judged(probe: Probe, picture: Image.Image, reference: Image.Image, prompt: str) -> dict[str, Any]:
    """What the judge finds right, how far its features are from the reference's (root mean square), and the scene's."""
    seen, expected = probe.look(picture, prompt), probe.look(reference, prompt)
    return {
        "right": seen.right,
        "feature_distance": round(float(np.sqrt(np.mean((seen.features - expected.features) ** 2))), 5),
        "features": [round(float(value), 3) for value in seen.features[-1]],
    }
