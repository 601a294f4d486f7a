"""SHA-256 of what every method draws, to show that a change of the code leaves each picture as it was, bit for bit.

    python -m benchmarks.picture_hashes --out before.json        in a checkout of the old code, its pair built there
    python -m benchmarks.picture_hashes --compare before.json    in one of the new code, on the same machine

A CPU's kernels decide the last bits, so the hashes are of one machine and one version of ONNX Runtime: they are never
kept in the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

from rich.progress import track

from hybridstitch import HybridStitch

SKETCHED = {"method": "hybrid", "sketch": "small", "score": "gap"}
HELD = {"method": "hybrid", "sketch": "held", "score": "change", "refresh_every": 1}
METHODS: dict[str, dict[str, Any]] = {
    "large": {"method": "large"},
    "small": {"method": "small"},
    "srdiffusion": {"method": "srdiffusion"},
    "t-stitch": {"method": "t-stitch"},
    "hybrid": {"method": "hybrid"},
    "the paper's": {**SKETCHED, "residual": "off", "refresh_every": 0, "grid": 0},
    "refreshed": {**SKETCHED, "residual": 2, "refresh_every": 2},
    "held": {**HELD, "mask_ratio": 0.15},
    "held, no mask": {**HELD, "mask_ratio": 0.0},
    "adaptive": {"method": "hybrid", "adaptive": 0.1},
    "unguided": {"method": "hybrid", "guidance": 1.0},
}
PROMPTS = (
    "a large dotted blue ring on a sand background",
    "a small striped red triangle left of a large plain orange square on a navy background",
    "a large dotted green heart on a sky background",
)
BATCHES = (1, len(PROMPTS))


def hashes(pipe: HybridStitch, *, steps: int) -> dict[str, str]:
    """By method, size, batch and picture: the hash of its RGB bytes, at every size of the recipe."""
    hash_of: dict[str, str] = {}
    for method, size, count in track(list(product(METHODS, pipe.recipe.profiles.sizes, BATCHES)), transient=True):
        images = pipe(PROMPTS[:count], seed=11, size=size, steps=steps, **METHODS[method]).images
        for index, image in enumerate(images, start=1):
            hash_of[f"{method} {size} {index} of {count}"] = hashlib.sha256(image.tobytes()).hexdigest()
    return hash_of


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The cases whose pictures are not the same, or that only one side drew."""
    return sorted(case for case in before.keys() | now.keys() if before.get(case) != now.get(case))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="demo")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--engines", type=Path, help="where they were built (default: build/PAIR/BACKEND)")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, metavar="FILE", help="save the hashes there (default: print them)")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="fail with the cases that differ from these")
    options = parser.parse_args()
    with HybridStitch.load(options.pair, backend=options.backend, engines=options.engines) as pipe:
        now = hashes(pipe, steps=options.steps)
    if options.out:
        options.out.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    if options.compare is None:
        if not options.out:
            print(json.dumps(now, indent=1))
        return
    if changed := differences(json.loads(options.compare.read_text(encoding="utf-8")), now):
        sys.exit("\n".join([f"{len(changed)} of {len(now)} pictures are not as they were:", *changed]))
    print(f"{len(now)} pictures are as they were")


if __name__ == "__main__":
    main()
