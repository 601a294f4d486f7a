"""The world that the demo pair draws: one or two textured shapes on a two-toned background, and their captions.

A caption names sizes, textures, colours, shapes, their relation and the background. It leaves the composition open, as
people's prompts do: where the objects stand (the relation holds), how large they are within their size, how they lean,
which way a texture runs, where the two tones of the background meet and which way it is shaded.

A scene is frozen data, and its picture is drawn by antialiased signed distance functions, batched in torch. Everything
follows from an integer seed.

    scene = sample_scene(7)
    caption(scene)      # "a large striped red star left of a small plain white circle on a navy background"
    render([scene])     # [1, 3, 128, 128], values 0 to 1

Some captions are never trained on: see `held_out`.
"""

import math
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .shapes import SHAPES, TEXTURES, shape_distance, texture_weight

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
RADIUS_ALONE = {"small": (0.18, 0.23), "large": (0.31, 0.38)}
RADIUS_PAIRED = {"small": (0.14, 0.165), "large": (0.21, 0.24)}
MARGIN = 0.015  # between an object and the border
GAP = 0.01  # between two objects
LEAN = math.radians(8)  # at most, to either side
GRAINS = tuple(math.radians(degrees) for degrees in (0, 45, 90, 135))  # the directions of a texture
EDGE_OFFSET = 0.3  # of the background's edge from the centre, at most
LEAST_CONTRAST = (0.40, 0.265)  # RGB distance of an object's two tones from the background, lest it vanish


@dataclass(frozen=True)
class Item:
    """One object. `center` and `radius` are shares of the picture's width, x to the right and y down; `lean` of the
    outline and `grain`, the direction of the texture, in radians."""

    size: str
    texture: str
    color: str
    shape: str
    center: tuple[float, float]
    radius: float
    lean: float
    grain: float


@dataclass(frozen=True)
class Ground:
    """The background: two tones that meet in a straight edge, and a slight shade across both. `angle` of the edge's
    normal and `shade`, towards which it gets lighter, in radians; `offset` of the edge from the centre in widths."""

    angle: float
    offset: float
    shade: float


@dataclass(frozen=True)
class Scene:
    """One or two objects; `relation` says where the first stands as seen from the second."""

    items: tuple[Item, ...]
    relation: str | None
    background: str
    ground: Ground


def allowed(color: str, background: str) -> bool:
    """Whether both tones of an object of that colour stand out from that background."""
    ground = BACKGROUNDS[background]
    tones = (COLORS[color], second_color(color))
    return all(math.dist(tone, ground) >= least for tone, least in zip(tones, LEAST_CONTRAST, strict=True))


def caption(scene: Scene) -> str:
    """The sentence that describes a scene, as far as captions go: see the top of this file for what they leave out."""
    named = [f"a {item.size} {item.texture} {item.color} {item.shape}" for item in scene.items]
    objects = named[0] if scene.relation is None else f"{named[0]} {scene.relation} {named[1]}"
    return f"{objects} on a {scene.background} background"


_ITEM = rf"a ({'|'.join(SIZES)}) ({'|'.join(TEXTURES)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
_CAPTION = re.compile(rf"{_ITEM}(?: ({'|'.join(RELATIONS)}) {_ITEM})? on a ({'|'.join(BACKGROUNDS)}) background")


def read_caption(text: str) -> Scene:
    """One scene of that caption, always the same. Raises ValueError for a sentence of another form."""
    match = _CAPTION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a caption of this world: {text!r}; one reads like {caption(sample_scene(0))!r}")
    size, texture, color, shape, relation, *second, background = match.groups()
    first = (size, texture, color, shape)
    words = [first] if relation is None else [first, tuple(second)]
    return _compose(words, relation, background, random.Random(0))


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
    picture = _backgrounds(scenes, axis)
    for layer in range(2):
        rows = [index for index, scene in enumerate(scenes) if len(scene.items) > layer]
        if rows:
            _draw(picture, rows, [scenes[row].items[layer] for row in rows], axis)
    return picture.clamp_(0.0, 1.0)


def second_color(color: str) -> tuple[float, ...]:
    """The other colour of a texture: lighter for dark colours, darker for light ones."""
    red, green, blue = COLORS[color]
    light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.45
    return tuple(0.38 * value if light else value + 0.66 * (1 - value) for value in (red, green, blue))


def _in_sixteenth(text: str) -> bool:
    return zlib.crc32(text.encode()) % 16 == 3


def _propose(rng: random.Random) -> Scene:
    background = rng.choice(list(BACKGROUNDS))
    colors = [color for color in COLORS if allowed(color, background)]
    count = 1 if rng.random() < 0.4 else 2
    drawn = zip(rng.sample(colors, count), rng.sample(SHAPES, count), strict=True)
    words = [(rng.choice(SIZES), rng.choice(TEXTURES), color, shape) for color, shape in drawn]
    relation = rng.choice(RELATIONS) if count == 2 else None
    return _compose(words, relation, background, rng)


def _compose(
    words: Sequence[tuple[str, str, str, str]], relation: str | None, background: str, rng: random.Random
) -> Scene:
    """Choose all that a caption leaves open."""
    ranges = RADIUS_ALONE if relation is None else RADIUS_PAIRED
    while True:
        radii = [rng.uniform(*ranges[size]) for size, *_ in words]
        rooms = [(radius + MARGIN, 1 - radius - MARGIN) for radius in radii]
        centers = [(rng.uniform(*room), rng.uniform(*room)) for room in rooms]
        if relation is None or _holds(relation, centers, radii):
            break
    items = tuple(
        Item(*word, center, radius, rng.uniform(-LEAN, LEAN), rng.choice(GRAINS))
        for word, center, radius in zip(words, centers, radii, strict=True)
    )
    turn = 2 * math.pi
    ground = Ground(rng.uniform(0, turn), rng.uniform(-EDGE_OFFSET, EDGE_OFFSET), rng.uniform(0, turn))
    return Scene(items, relation, background, ground)


def _holds(relation: str, centers: Sequence[tuple[float, float]], radii: Sequence[float]) -> bool:
    """Whether the first of two objects stands clearly where the relation says, and apart from the second."""
    (x, y), (u, v) = centers
    along, aside = {
        "left of": (u - x, v - y),
        "right of": (x - u, v - y),
        "above": (v - y, u - x),
        "below": (y - v, u - x),
    }[relation]
    return along > 1.3 * abs(aside) and math.hypot(u - x, v - y) >= sum(radii) + GAP


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    """[len(values), 1, 1], to meet a picture's rows and columns."""
    return torch.tensor(values, device=device, dtype=torch.float32)[:, None, None]


def _backgrounds(scenes: Sequence[Scene], axis: Tensor) -> Tensor:
    """[B, 3, size, size]."""
    pixel = float(axis[1] - axis[0])
    x, y = (axis - 0.5)[None, None, :], (axis - 0.5)[None, :, None]
    angle = _column([scene.ground.angle for scene in scenes], axis.device)
    offset = _column([scene.ground.offset for scene in scenes], axis.device)
    shade = _column([scene.ground.shade for scene in scenes], axis.device)
    beyond = (0.5 + (x * angle.cos() + y * angle.sin() - offset) / pixel).clamp(0.0, 1.0)
    tone = (1.08 - 0.30 * beyond) * (1 + 0.16 * (x * shade.cos() + y * shade.sin()))
    base = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes], device=axis.device)[:, :, None, None]
    return base * tone[:, None]


def _draw(picture: Tensor, rows: Sequence[int], items: Sequence[Item], axis: Tensor) -> None:
    """Paint one item onto each of the given rows of `picture`, in place."""
    device, pixel = axis.device, float(axis[1] - axis[0])
    for shape in SHAPES:
        chosen = [(row, item) for row, item in zip(rows, items, strict=True) if item.shape == shape]
        if not chosen:
            continue
        index = torch.tensor([row for row, _ in chosen], device=device)
        some = [item for _, item in chosen]
        distance = item_distance(shape, some, axis)
        cover = (0.5 - distance / pixel).clamp(0.0, 1.0)[:, None]
        weight = item_texture(some, axis)[:, None]
        first = torch.tensor([COLORS[item.color] for item in some], device=device)[:, :, None, None]
        other = torch.tensor([second_color(item.color) for item in some], device=device)[:, :, None, None]
        picture[index] = torch.lerp(picture[index], torch.lerp(first, other, weight), cover)


def item_distance(shape: str, items: Sequence[Item], axis: Tensor) -> Tensor:
    """Signed distances to items of one shape on the grid axis x axis, [len(items), size, size], in picture widths."""
    x, y = _turned(items, [item.lean for item in items], axis)
    radius = _column([item.radius for item in items], axis.device)
    return shape_distance(shape, x / radius, y / radius) * radius


def item_texture(items: Sequence[Item], axis: Tensor) -> Tensor:
    """How much of each item's second colour lies at each point, 0 to 1, [len(items), size, size]; the outline does not
    count. A period is 2 to 3 tokens: what a token covers is 1/16 of the picture."""
    weight = torch.zeros(len(items), len(axis), len(axis), device=axis.device)
    for texture in TEXTURES[1:]:
        rows = [row for row, item in enumerate(items) if item.texture == texture]
        if rows:
            some = [items[row] for row in rows]
            x, y = _turned(some, [item.grain for item in some], axis)
            period = _column([0.10 + 0.22 * item.radius for item in some], axis.device)
            weight[rows] = texture_weight(texture, x, y, period, float(axis[1] - axis[0]))
    return weight


def _turned(items: Sequence[Item], angles: Sequence[float], axis: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of the grid from each item's centre, along axes turned by its angle."""
    x = axis[None, None, :] - _column([item.center[0] for item in items], axis.device)
    y = axis[None, :, None] - _column([item.center[1] for item in items], axis.device)
    angle = _column(angles, axis.device)
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
