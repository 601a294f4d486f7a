"""Whether a picture shows what its caption says, judged by drawing: an attribute is right when no other value of it,
put into the scene, would render closer to the picture."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from training.shapes import SHAPES, TEXTURES
from training.world import BACKGROUNDS, COLORS, SIZES, Item, Scene, caption, read_caption, render

ATTRIBUTES: dict[str, Sequence[str]] = {
    "shape": SHAPES,
    "color": list(COLORS),
    "texture": TEXTURES,
    "size": SIZES,
}
SIDE = 64  # pictures are compared at this size
OFFSETS = (-0.02, 0.0, 0.02)  # the jitter of places that a candidate may take, in shares of the width


def attribute_accuracy(pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of right values per attribute over all objects, of right places ("place": the scene as told beats the one
    with its two objects exchanged) and of pictures with everything right ("all").

    pictures [B, 3, H, W], values 0 to 1; scenes as told by their captions.
    """
    verdicts: dict[str, list[bool]] = {}
    for picture, scene in zip(pictures, scenes, strict=True):
        right = _judge(picture, read_caption(caption(scene)))
        for name, values in right.items():
            verdicts.setdefault(name, []).extend(values)
        verdicts.setdefault("all", []).append(all(itertools.chain.from_iterable(right.values())))
    return {name: sum(values) / len(values) for name, values in verdicts.items()}


def _judge(picture: Tensor, scene: Scene) -> dict[str, list[bool]]:
    small = torch.nn.functional.interpolate(picture[None], size=(SIDE, SIDE), mode="area")
    right: dict[str, list[bool]] = {}
    for name, values in ATTRIBUTES.items():
        for index, item in enumerate(scene.items):
            told = getattr(item, name)
            candidates = {value: _with_value(scene, index, name, value) for value in values}
            right.setdefault(name, []).append(_closest(small, candidates) == told)
    grounds = {value: replace(scene, background=value) for value in BACKGROUNDS}
    right["background"] = [_closest(small, grounds) == scene.background]
    if scene.relation is not None:
        right["place"] = [_closest(small, {"told": scene, "exchanged": _exchanged(scene)}) == "told"]
    return right


def _with_value(scene: Scene, index: int, attribute: str, value: str) -> Scene:
    items = list(scene.items)
    words = {"size": items[index].size, "texture": items[index].texture}
    words |= {"color": items[index].color, "shape": items[index].shape, attribute: value}
    items[index] = replace(items[index], **words)
    # The radius follows from the size and from whether there is a second object: read it back from the caption.
    return read_caption(caption(replace(scene, items=tuple(items))))


def _exchanged(scene: Scene) -> Scene:
    first, second = scene.items
    return read_caption(caption(replace(scene, items=(second, first))))


def _closest(picture: Tensor, candidates: dict[str, Scene]) -> str:
    """The candidate that renders closest to picture [1, 3, SIDE, SIDE] at its best jitter."""
    moved = [scene for candidate in candidates.values() for scene in _jitters(candidate)]
    errors = ((render(moved, SIDE, picture.device) - picture) ** 2).mean(dim=(1, 2, 3))
    best = errors.view(len(candidates), -1).amin(dim=1).argmin()
    return list(candidates)[int(best)]


def _jitters(scene: Scene) -> Iterator[Scene]:
    for dx, dy in itertools.product(OFFSETS, OFFSETS):
        yield replace(scene, items=tuple(_moved(item, dx, dy) for item in scene.items))


def _moved(item: Item, dx: float, dy: float) -> Item:
    return replace(item, center=(item.center[0] + dx, item.center[1] + dy))
