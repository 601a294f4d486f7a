"""What a batch wins, and whether its pictures are the same as alone.

    python -m benchmarks.batches [--threads N]

For each batch that the engines take: CPU seconds a picture (the process's, so that a busy machine does not count; least
of some repetitions), and whether every picture has the bytes that it has alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from hybridstitch import HybridStitch, Request
from hybridstitch.evaluation.cases import DEMO_CAPTIONS


def measure(pipe: HybridStitch, sizes: Sequence[int], repetitions: int, **settings: Any) -> dict[int, dict[str, Any]]:
    """CPU seconds a picture, and equality, of each batch size."""
    requests = pipe.resolve(DEMO_CAPTIONS[: max(sizes)], **settings)
    alone = [drawn(pipe, [request])[0] for request in requests]
    rows: dict[int, dict[str, Any]] = {size: {"equal": True, "seconds": float("inf")} for size in sizes}
    for _ in range(repetitions):
        for size, row in rows.items():
            start = time.process_time()
            pictures = drawn(pipe, requests[:size])
            row["seconds"] = min(row["seconds"], (time.process_time() - start) / size)
            row["equal"] = row["equal"] and pictures == alone[:size]
    return rows


def drawn(pipe: HybridStitch, requests: Sequence[Request]) -> list[bytes]:
    """The pixels of each picture."""
    return [image.tobytes() for image in pipe.run(requests).images]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="demo")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--engines")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    pipe = HybridStitch.load(args.pair, engines=args.engines, backend=args.backend, threads=args.threads)
    sizes = pipe.resolve(DEMO_CAPTIONS[:1], steps=args.steps)[0].batch_sizes
    for size, row in measure(pipe, sizes, args.repetitions, steps=args.steps).items():
        print(f"batch of {size}: {row['seconds']:.3f} CPU seconds a picture; same bytes as alone: {row['equal']}")


if __name__ == "__main__":
    main()
