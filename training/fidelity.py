"""Whether a picture shows what its caption says, judged by drawing: an attribute is right when no other value of it,
put into the scene, would render closer to the picture."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch.nn.functional as F
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
COARSE = (-0.02, 0.0, 0.02)  # offsets of an object, in shares of the width, among which it is first found
FINE = (-0.01, 0.0, 0.01)  # and those that each candidate may take from there


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
    small = F.interpolate(picture[None], size=(SIDE, SIDE), mode="area")
    right: dict[str, list[bool]] = {}
    if scene.relation is not None:
        errors = _errors(small, [scene, _exchanged(scene)])
        right["place"] = [bool(errors[0] < errors[1])]
    for index in range(len(scene.items)):
        moved = list(_moves(scene, index, COARSE))
        scene = moved[int(_errors(small, moved).argmin())]
    for name, values in ATTRIBUTES.items():
        for index, item in enumerate(scene.items):
            candidates = [_with_value(scene, index, name, value) for value in values]
            best = _closest(small, [list(_moves(candidate, index, FINE)) for candidate in candidates])
            right.setdefault(name, []).append(values[best] == getattr(item, name))
    grounds = [replace(scene, background=background) for background in BACKGROUNDS]
    right["background"] = [grounds[int(_errors(small, grounds).argmin())] == scene]
    return right


def _errors(picture: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Mean squared difference of each scene's rendering to picture [1, 3, SIDE, SIDE]."""
    return ((render(scenes, SIDE, picture.device) - picture) ** 2).mean(dim=(1, 2, 3))


def _closest(picture: Tensor, candidates: Sequence[Sequence[Scene]]) -> int:
    """The index of the candidate that comes closest in its best variant; all have equally many."""
    errors = _errors(picture, list(itertools.chain.from_iterable(candidates)))
    return int(errors.view(len(candidates), -1).amin(dim=1).argmin())


def _with_value(scene: Scene, index: int, attribute: str, value: str) -> Scene:
    """The scene with another value; a size brings the radius of that size along, and centres stay."""
    changed = _with_item(scene, index, replace(scene.items[index], **{attribute: value}))
    if attribute != "size":
        return changed
    radius = read_caption(caption(changed)).items[index].radius
    return _with_item(changed, index, replace(changed.items[index], radius=radius))


def _moves(scene: Scene, index: int, offsets: Sequence[float]) -> Iterator[Scene]:
    """The scene with one object at each pair of offsets."""
    item = scene.items[index]
    for dx, dy in itertools.product(offsets, offsets):
        yield _with_item(scene, index, replace(item, center=(item.center[0] + dx, item.center[1] + dy)))


def _with_item(scene: Scene, index: int, item: Item) -> Scene:
    return replace(scene, items=(*scene.items[:index], item, *scene.items[index + 1 :]))


def _exchanged(scene: Scene) -> Scene:
    first, second = scene.items
    return read_caption(caption(replace(scene, items=(second, first))))
