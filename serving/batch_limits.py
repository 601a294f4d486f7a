"""How many requests share a batch: as many as come out of it as they do alone, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.size import Size
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.request import Request
from hybridstitch.runtime.result import Picture

from .readiness import draw_a_little


class BatchLimits:
    """
    Args:
        most: pictures of a batch, at most; None: as many as `warm_up` found to come out the same, else 1.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._equal: dict[tuple[Size, int], tuple[int | None, int]] = {}  # size, rows of one: masked tokens, pictures

    def warm_up(self, pipe: HybridStitch, size: Size) -> None:
        """Draw a picture of a size and the default guidance and mask ratio; where no number was given, draw some alone
        and together, and compare.

        In which order an engine sums depends on the lengths, never on the values: what is the same for each of many
        thousand values in every row of a batch is the same for all.

        Raises:
            HybridStitchError: one alone went wrong.
        """
        alone = draw_a_little(pipe, size)
        if self._most is not None:
            return
        first = pipe.requests.resolve(alone[0].prompt, size=size, method="hybrid")
        sizes = first.batch_sizes
        if sizes[0] > 1:
            return
        alone += [picture for seed in range(1, sizes[-1]) for picture in draw_a_little(pipe, size, [seed])]
        most = max(images for images in sizes if images == 1 or _same(pipe, size, alone[:images]))
        self._equal[size, first.rows] = first.masked, most

    def sizes(self, request: Request) -> tuple[int, ...]:
        """The batches that a request may be in, ascending; if none is allowed, the smallest that the engines take."""
        possible = request.batch_sizes
        most = self._learned(request) if self._most is None else self._most
        return tuple(size for size in possible if size <= most) or possible[:1]

    def _learned(self, request: Request) -> int:
        masked, most = self._equal.get((request.size, request.rows), (None, 1))
        return most if request.masked in (None, masked) else 1  # other numbers of masked tokens were not looked at


def _same(pipe: HybridStitch, size: Size, alone: Sequence[Picture]) -> bool:
    """Whether a batch gives the same pictures; if there is not enough memory for it, it does not."""
    try:
        together = draw_a_little(pipe, size, range(len(alone)))
    except HybridStitchError:
        return False
    pairs = list(zip(alone, together, strict=True))
    return all(torch.equal(one.latents, other.latents) and one.image == other.image for one, other in pairs)
