"""What the steps of Stable Diffusion 3.5 large cost beside a full one, in operations at 1024x1024; nothing runs.

    python -m benchmarks.sd35_operations [--save]

`export_sd35` writes the checkpoint that stands in for it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from benchmarks.export_sd35 import TEXT, write_checkpoint
from benchmarks.machine import save
from hybridstitch.evaluation.cost.operations import count_operations
from hybridstitch.method.geometry import masked_count
from hybridstitch.models.family import family_of
from hybridstitch.pairs.recipe import Recipe

TOKENS = 64 * 64  # of 16 pixels a side, in 1024x1024


def masked_shares() -> dict[str, float]:
    """By the mask ratios of the recipe, the operations of a call on so many of the tokens, as a share of a full one."""
    profiles = Recipe.load("sd35").profiles
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder) / "checkpoint", layers=38, heads=38)
        transformer = family_of(checkpoint).describe("large", checkpoint, torch.float32, TEXT.zero_tokens)

    def count(computed: int) -> int:
        text = TEXT.clip_tokens + TEXT.t5_tokens
        return count_operations(transformer, {"B": 2, "M": computed, "F": TOKENS - computed, "T": text})

    full = count(TOKENS)
    masked = {ratio: masked_count(TOKENS, ratio, profiles.token_bucket) for ratio in profiles.mask_ratios}
    return {f"{ratio:g}": round(count(computed) / full, 4) for ratio, computed in masked.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    figures = {"masked_share_of_full": masked_shares()}
    print(json.dumps(figures))
    if options.save:
        print(save("sd35-operations", "benchmarks.sd35_operations", figures))


if __name__ == "__main__":
    main()
