"""Whether a picture shows what its caption says, judged by a small network trained on true pictures.

It names the outermost object on each of four sides (left, right, top, bottom) and how the objects are arranged, which
together say everything that a caption does. It sees its pictures blurred and with noise, so that a smooth or grainy
picture is not a wrong one.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .scenes import BACKGROUNDS, COLORS, SIZES, Item, Scene, render, sample_scene
from .shapes import SHAPES, TEXTURES

SIDES = ("left of", "right of", "above", "below")  # an object's, as seen from the other
ARRANGEMENTS = ("alone", "beside", "stacked")
ATTRIBUTES: dict[str, Sequence[str]] = {
    "shape": SHAPES,
    "color": list(COLORS),
    "texture": TEXTURES,
    "size": SIZES,
}
GROUNDS = list(BACKGROUNDS)
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
WIDTH, LAYERS, TOKENS = 128, 3, 8
BATCH = 64
JUDGE = Path(__file__).with_name("judge.safetensors")


class Judge(nn.Module):
    """Convolutions to 8 x 8 tokens, then a transformer in which one token a side and one for the scene ask."""

    def __init__(self) -> None:
        super().__init__()
        stages = []
        for inward, outward in itertools.pairwise((3, 32, 64, 96, WIDTH)):
            stages += [nn.Conv2d(inward, outward, 3, stride=2, padding=1), nn.GroupNorm(8, outward), nn.GELU()]
            stages += [nn.Conv2d(outward, outward, 3, padding=1, groups=outward // 16), nn.GELU()]
        self.look = nn.Sequential(*stages)
        self.place = nn.Parameter(0.02 * torch.randn(1, TOKENS**2, WIDTH))
        self.asking = nn.Parameter(0.02 * torch.randn(1, len(SIDES) + 1, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.think = nn.TransformerEncoder(layer, LAYERS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.name = nn.ModuleDict({name: nn.Linear(WIDTH, len(values)) for name, values in ATTRIBUTES.items()})
        self.arrangement = nn.Linear(WIDTH, len(ARRANGEMENTS))
        self.ground = nn.Linear(WIDTH, len(GROUNDS))

    def features(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3, 128, 128], 0 to 1. Returns [B, 5, 128]: what it sees at each side, and of the scene."""
        tokens = self.look(2 * pictures - 1).flatten(2).transpose(1, 2) + self.place
        asked = torch.cat([self.asking.expand(len(tokens), -1, -1), tokens], dim=1)
        return self.think(asked)[:, : len(SIDES) + 1]

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits: of each attribute [B, 4 sides, values], "arrangement" [B, 3], "background" [B, 6]."""
        seen = self.features(pictures)
        named = {name: head(seen[:, : len(SIDES)]) for name, head in self.name.items()}
        return {**named, "arrangement": self.arrangement(seen[:, -1]), "background": self.ground(seen[:, -1])}


def arrangement(scene: Scene) -> str:
    if scene.relation is None:
        return "alone"
    return "beside" if scene.relation in SIDES[:2] else "stacked"


def targets(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """What `Judge` should say of scenes, as indices; -1 where nothing is asked: which of two objects side by side is
    the upper one."""
    indices: dict[str, list] = {name: [] for name in ATTRIBUTES}
    for scene in scenes:
        only = scene.items[0] if scene.relation is None else None
        at_side: dict[str, Item | None] = dict.fromkeys(SIDES, only)
        if scene.relation is not None:
            at_side[scene.relation], at_side[OPPOSITE[scene.relation]] = scene.items
        for name, values in ATTRIBUTES.items():
            words = [getattr(item, name, None) for item in at_side.values()]
            indices[name].append([-1 if word is None else values.index(word) for word in words])
    indices["arrangement"] = [ARRANGEMENTS.index(arrangement(scene)) for scene in scenes]
    indices["background"] = [GROUNDS.index(scene.background) for scene in scenes]
    return {name: torch.tensor(values) for name, values in indices.items()}


@torch.no_grad()
def verdicts(judge: Judge, pictures: Tensor, scenes: Sequence[Scene]) -> list[dict[str, list[bool]]]:
    """Of each picture: which of its objects have the right shape, colour, texture and size, whether its background is
    right, its objects in the right "place" (as many as told, and on the told sides of each other), and everything
    ("all"). Objects that stand in each other's place are wrong in place alone.

    pictures [B, 3, 128, 128], values 0 to 1; scenes as told by their captions.
    """
    right_of_each = []
    for first in range(0, len(scenes), BATCH):
        logits = {name: values.float().cpu() for name, values in judge(pictures[first : first + BATCH]).items()}
        for row, scene in enumerate(scenes[first : first + BATCH]):
            right = _verdict({name: values[row] for name, values in logits.items()}, scene)
            right_of_each.append({**right, "all": [all(itertools.chain.from_iterable(right.values()))]})
    return right_of_each


def attribute_accuracy(judge: Judge, pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Shares of the objects, and of the pictures, that are right: see `verdicts`."""
    return shares(verdicts(judge, pictures, scenes))


def shares(right_of_each: Sequence[dict[str, list[bool]]]) -> dict[str, float]:
    """Of each attribute the share that is right, over all pictures."""
    together = {name: [right for each in right_of_each for right in each[name]] for name in right_of_each[0]}
    return {name: sum(values) / len(values) for name, values in together.items()}


def _verdict(logits: dict[str, Tensor], scene: Scene) -> dict[str, list[bool]]:
    """Each attribute's verdicts, an object each, of one picture; logits without the batch."""
    seen = ARRANGEMENTS[int(logits["arrangement"].argmax())]
    sides = _sides(scene, seen)
    # Two objects may have been drawn in each other's place: the reading that fits the words better counts.
    readings = [sides, sides[::-1]]
    straight, crossed = (sum(_fit(logits, item, side) for item, side in _pairs(scene, sides)) for sides in readings)
    placed = seen == arrangement(scene) and straight >= crossed
    read = _pairs(scene, readings[0] if straight >= crossed else readings[1])
    right = {
        name: [values[int(logits[name][side].argmax())] == getattr(item, name) for item, side in read]
        for name, values in ATTRIBUTES.items()
    }
    right["place"] = [placed]
    right["background"] = [GROUNDS[int(logits["background"].argmax())] == scene.background]
    return right


def _sides(scene: Scene, seen: str) -> tuple[int, int]:
    """Where to look for the first and the second object, as indices into SIDES."""
    if scene.relation is None:
        return (0, 0)
    if seen == arrangement(scene) or seen == "alone":
        return SIDES.index(scene.relation), SIDES.index(OPPOSITE[scene.relation])
    return (0, 1) if seen == "beside" else (2, 3)


def _pairs(scene: Scene, sides: tuple[int, ...]) -> list[tuple[Item, int]]:
    return list(zip(scene.items, sides, strict=False))


def _fit(logits: dict[str, Tensor], item: Item, side: int) -> float:
    """How well what is seen at a side fits the words of an object, as a log-probability."""
    return sum(
        float(logits[name][side].log_softmax(-1)[values.index(getattr(item, name))])
        for name, values in ATTRIBUTES.items()
    )


def load_judge(path: Path = JUDGE) -> Judge:
    """The judge in a file; without one, that of the demo pair's world."""
    judge = Judge()
    judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return judge.eval()


def accuracy_on_true_pictures(judge: Judge, count: int = 1000) -> dict[str, float]:
    """Accuracy on renders of scenes that training never saw: a judge under 0.98 in anything is not one."""
    device = next(judge.parameters()).device
    scenes = [sample_scene(50_000 + index, held_out_only=True) for index in range(count)]
    pictures = [render(scenes[first : first + BATCH], device=device) for first in range(0, count, BATCH)]
    return attribute_accuracy(judge, torch.cat(pictures), scenes)
