"""The world that the demo pair draws: one or two textured shapes on a shaded background, and their captions.

A scene is frozen data, its caption is a sentence made of its attributes, and its picture is drawn by antialiased
signed distance functions, batched in torch. Everything follows from an integer seed.

    scene = sample_scene(7)
    caption(scene)      # "a large striped red star left of a small plain white circle on a navy background"
    render([scene])     # [1, 3, 128, 128], values 0 to 1

Some captions are never trained on: see `held_out`.
"""

import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.shapes import SHAPES, TEXTURES, shape_distance, texture_weight

SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.12),
    "green": (0.13, 0.66, 0.22),
    "blue": (0.12, 0.28, 0.90),
    "yellow": (0.98, 0.86, 0.12),
    "orange": (0.98, 0.52, 0.06),
    "purple": (0.52, 0.16, 0.66),
    "white": (0.97, 0.97, 0.97),
    "black": (0.06, 0.06, 0.07),
    "pink": (0.98, 0.54, 0.74),
    "cyan": (0.12, 0.82, 0.86),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "navy": (0.09, 0.12, 0.34),
    "sand": (0.82, 0.73, 0.55),
    "grey": (0.52, 0.52, 0.54),
    "forest": (0.11, 0.32, 0.19),
    "maroon": (0.38, 0.09, 0.15),
    "sky": (0.56, 0.76, 0.95),
}
# Half the width of an object, as a share of the picture's width: alone, and beside another.
RADIUS_ALONE = {"small": 0.19, "large": 0.38}
RADIUS_PAIRED = {"small": 0.145, "large": 0.24}
# Centre of the first object of a pair; the second stands opposite.
FIRST_CENTER = {"left of": (0.26, 0.5), "right of": (0.74, 0.5), "above": (0.5, 0.26), "below": (0.5, 0.74)}
LEAST_CONTRAST = 0.36  # RGB distance under which an object would vanish into its background


@dataclass(frozen=True)
class Item:
    """One object. `center` and `radius` are shares of the picture's width, x to the right and y down."""

    size: str
    texture: str
    color: str
    shape: str
    center: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class Scene:
    """One or two objects; `relation` says where the first stands as seen from the second."""

    items: tuple[Item, ...]
    relation: str | None
    background: str


def allowed(color: str, background: str) -> bool:
    """Whether an object of that colour can be told from that background."""
    pairs = zip(COLORS[color], BACKGROUNDS[background], strict=True)
    return sum((a - b) ** 2 for a, b in pairs) ** 0.5 >= LEAST_CONTRAST


def caption(scene: Scene) -> str:
    """The sentence that describes a scene; it names everything but the small jitter of place and size."""
    named = [f"a {item.size} {item.texture} {item.color} {item.shape}" for item in scene.items]
    objects = named[0] if scene.relation is None else f"{named[0]} {scene.relation} {named[1]}"
    return f"{objects} on a {scene.background} background"


_ITEM = rf"a ({'|'.join(SIZES)}) ({'|'.join(TEXTURES)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
_CAPTION = re.compile(rf"{_ITEM}(?: ({'|'.join(RELATIONS)}) {_ITEM})? on a ({'|'.join(BACKGROUNDS)}) background")


def read_caption(text: str) -> Scene:
    """The scene that a caption describes, without jitter. Raises ValueError for a sentence of another form."""
    match = _CAPTION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a caption of this world: {text!r}; one reads like {caption(sample_scene(0))!r}")
    size, texture, color, shape, relation, *second, background = match.groups()
    first = (size, texture, color, shape)
    words = [first] if relation is None else [first, tuple(second)]
    return _place(words, relation, background, random.Random(0), jitter=0.0)


def held_out(scene: Scene) -> bool:
    """Whether the scene is kept from training: one texture-colour-shape combination in sixteen never occurs in
    training, nor does one whole caption in sixteen. CRC-32 of the words decides, so the rule never moves."""
    combinations = (f"{item.texture} {item.color} {item.shape}" for item in scene.items)
    return any(_in_sixteenth(text) for text in (*combinations, caption(scene)))


def sample_scene(seed: int, held_out_only: bool = False) -> Scene:
    """The scene of that seed: one to train on, or with `held_out_only` one that training never sees."""
    rng = random.Random(seed)
    while True:
        scene = _propose(rng)
        if held_out(scene) == held_out_only:
            return scene


def render(scenes: Sequence[Scene], size: int = 128, device: torch.device | str = "cpu") -> Tensor:
    """Draw scenes. Returns [len(scenes), 3, size, size], float32, values 0 to 1."""
    axis = (torch.arange(size, device=device) + 0.5) / size
    picture = _backgrounds([BACKGROUNDS[scene.background] for scene in scenes], axis)
    for layer in range(2):
        rows = [index for index, scene in enumerate(scenes) if len(scene.items) > layer]
        if rows:
            _draw(picture, rows, [scenes[row].items[layer] for row in rows], axis)
    return picture.clamp_(0.0, 1.0)


def second_color(color: str) -> tuple[float, ...]:
    """The other colour of a texture: lighter for dark colours, darker for light ones."""
    red, green, blue = COLORS[color]
    light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.45
    return tuple(0.42 * value if light else value + 0.62 * (1 - value) for value in (red, green, blue))


def _in_sixteenth(text: str) -> bool:
    return zlib.crc32(text.encode()) % 16 == 3


def _propose(rng: random.Random) -> Scene:
    background = rng.choice(list(BACKGROUNDS))
    colors = [color for color in COLORS if allowed(color, background)]
    count = 1 if rng.random() < 0.3 else 2
    drawn = zip(rng.sample(colors, count), rng.sample(SHAPES, count), strict=True)
    words = [(rng.choice(SIZES), rng.choice(TEXTURES), color, shape) for color, shape in drawn]
    relation = rng.choice(RELATIONS) if count == 2 else None
    return _place(words, relation, background, rng, jitter=1.0)


def _place(
    words: Sequence[tuple[str, str, str, str]], relation: str | None, background: str, rng: random.Random, jitter: float
) -> Scene:
    first = (0.5, 0.5) if relation is None else FIRST_CENTER[relation]
    centers = (first, (1 - first[0], 1 - first[1]))
    radii = RADIUS_ALONE if relation is None else RADIUS_PAIRED
    items = []
    for (size, texture, color, shape), (x, y) in zip(words, centers, strict=False):
        dx, dy, scale = (jitter * rng.uniform(-1, 1) for _ in range(3))
        center = (x + 0.02 * dx, y + 0.02 * dy)
        items.append(Item(size, texture, color, shape, center, radii[size] * (1 + 0.04 * scale)))
    return Scene(tuple(items), relation, background)


def _backgrounds(colors: Sequence[tuple[float, ...]], axis: Tensor) -> Tensor:
    """A vertical gradient with a slight vignette, [B, 3, size, size]."""
    base = torch.tensor(colors, device=axis.device)[:, :, None, None]
    centered = axis - 0.5
    shade = 1.14 - 0.28 * axis[:, None] - 0.35 * (centered[:, None] ** 2 + centered[None, :] ** 2)
    return base * shade


def _draw(picture: Tensor, rows: Sequence[int], items: Sequence[Item], axis: Tensor) -> None:
    """Paint one item onto each of the given rows of `picture`, in place."""
    device, pixel = axis.device, float(axis[1] - axis[0])
    for shape in SHAPES:
        chosen = [(row, item) for row, item in zip(rows, items, strict=True) if item.shape == shape]
        if not chosen:
            continue
        geometry = torch.tensor([(*item.center, item.radius) for _, item in chosen], device=device)
        x = (axis[None, None, :] - geometry[:, 0, None, None]).expand(-1, len(axis), -1)
        y = (axis[None, :, None] - geometry[:, 1, None, None]).expand(-1, -1, len(axis))
        radius = geometry[:, 2, None, None]
        distance = shape_distance(shape, x / radius, y / radius) * radius
        cover = (0.5 - distance / pixel).clamp(0.0, 1.0)[:, None]
        weight = torch.zeros_like(cover)
        for texture in TEXTURES[1:]:
            same = [index for index, (_, item) in enumerate(chosen) if item.texture == texture]
            if same:
                weight[same] = texture_weight(texture, x[same], y[same], pixel)[:, None]
        first = torch.tensor([COLORS[item.color] for _, item in chosen], device=device)[:, :, None, None]
        other = torch.tensor([second_color(item.color) for _, item in chosen], device=device)[:, :, None, None]
        index = torch.tensor([row for row, _ in chosen], device=device)
        picture[index] = torch.lerp(picture[index], torch.lerp(first, other, weight), cover)
