"""Every method on one pair, side by side: seconds a picture, and distance to the large model's own picture.

    python -m benchmarks.methods            (make bench)

Repetitions are interleaved, so that a machine that slows down slows every method down. Seconds are the median over
repetitions of one picture from prompt to pixels; the distance is the mean PSNR over all prompts and seeds. What is
drawn: held-out captions of the demo pair's world. A method of two models has to beat the large model alone with fewer
steps in the same time: those rows are there for it.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import save
from hybridstitch import HybridStitch

METHODS: dict[str, dict[str, Any]] = {
    "large": {"method": "large"},
    "large, 20 steps": {"method": "large", "steps": 20},
    "large, 16 steps": {"method": "large", "steps": 16},
    "large, 12 steps": {"method": "large", "steps": 12},
    "small": {"method": "small"},
    "srdiffusion": {"method": "srdiffusion"},
    "t-stitch": {"method": "t-stitch"},
    "hybrid, the paper's": {"method": "hybrid", "residual": "off"},
    "hybrid": {"method": "hybrid"},
}

CAPTIONS = (  # held out: the demo pair was never trained on them
    "a small striped yellow circle right of a large dotted black star on a grey background",
    "a large dotted purple square above a small striped blue star on a forest background",
    "a small striped red star right of a small striped purple ring on a forest background",
    "a small checkered purple square on a sky background",
    "a large checkered red triangle right of a small striped green square on a maroon background",
    "a large checkered yellow ring on a forest background",
    "a small dotted white ring below a large checkered red triangle on a sky background",
    "a small dotted red circle on a navy background",
)


def psnr(picture: Image.Image, reference: Image.Image) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, in dB."""
    difference = np.asarray(picture, dtype=float) - np.asarray(reference, dtype=float)
    return float(10 * np.log10(255**2 / max(np.mean(difference**2), 1e-12)))


def measure(
    pipe: HybridStitch, captions: tuple[str, ...], repetitions: int, guidance: float | None = None
) -> dict[str, Any]:
    """Seconds, speedup over large, overhead and PSNR to large of every method; guidance None is the recipe's."""
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    overhead: dict[str, list[float]] = {name: [] for name in METHODS}
    distance: dict[str, list[float]] = {name: [] for name in METHODS}
    for settings in METHODS.values():  # warm up
        pipe(captions[0], guidance=guidance, **settings)
    rounds = [(repetition, seed) for repetition in range(repetitions) for seed in range(len(captions))]
    for repetition, seed in track(rounds, description="pictures", transient=True):
        reference: Image.Image | None = None
        for name, settings in METHODS.items():
            result = pipe(captions[seed], seed=1000 * repetition + seed, guidance=guidance, **settings)
            seconds[name].append(result.timing.total)
            overhead[name].append(result.timing.overhead)
            reference = reference or result.images[0]
            if name != "large":
                distance[name].append(psnr(result.images[0], reference))
    large = median(seconds["large"])
    return {
        name: {
            "seconds": round(median(seconds[name]), 4),
            "seconds_quartiles": [round(float(q), 4) for q in np.percentile(seconds[name], [25, 75])],
            "speedup": round(large / median(seconds[name]), 3),
            "overhead": round(median(overhead[name]), 4),
            "psnr_to_large_db": round(float(np.mean(distance[name])), 2) if distance[name] else None,
        }
        for name in METHODS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="demo")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--repetitions", type=int, default=3, help="of all captions")
    parser.add_argument("--guidance", type=float, help="of all methods (default: the recipe's)")
    options = parser.parse_args()
    pipe = HybridStitch.load(options.pair, backend=options.backend)
    methods = measure(pipe, CAPTIONS, options.repetitions, options.guidance)
    guided = f"-guidance-{options.guidance:g}" if options.guidance is not None else ""
    path = save(f"methods-{options.pair}-{options.backend}{guided}", "benchmarks.methods", {"methods": methods})
    table = Table(box=None, pad_edge=False)
    for column in ("method", "seconds", "speedup", "PSNR to large", "overhead"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, found in methods.items():
        closeness = "" if found["psnr_to_large_db"] is None else f"{found['psnr_to_large_db']:.1f} dB"
        table.add_row(
            name, f"{found['seconds']:.2f}", f"{found['speedup']:.2f}x", closeness, f"{found['overhead']:.1%}"
        )
    Console().print(table)
    print(path)


if __name__ == "__main__":
    main()
