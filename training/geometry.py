"""What a scene looks like, in numbers that a token can be asked for: where outlines, edge and texture run."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridstitch.evaluation.world.scenes import Scene, item_distance, item_texture
from hybridstitch.evaluation.world.shapes import SHAPES

POINTS = 2  # a token, across and down
CHANNELS = 4  # distances to both objects and to the background's edge, and the texture
FAR = 0.25  # widths beyond which a distance is not told apart
UNIT = 0.15  # widths that make a distance of 1


def geometry(scenes: Sequence[Scene], side: int) -> Tensor:
    """[len(scenes), side * side, CHANNELS * POINTS ** 2]: for each of side x side tokens, at 2 x 2 points of it, the
    signed distances to the outlines of the first and second object and to the background's edge, in UNITs, and on an
    object -1 to 1 for its first to its second colour (0 elsewhere)."""
    points = POINTS * side
    axis = (torch.arange(points) + 0.5) / points
    values = torch.zeros(len(scenes), CHANNELS, points, points)
    values[:, :2] = FAR
    texture = values[:, 3]
    for layer in range(2):
        for shape in SHAPES:
            rows = [
                row
                for row, scene in enumerate(scenes)
                if len(scene.items) > layer and scene.items[layer].shape == shape
            ]
            if rows:
                items = [scenes[row].items[layer] for row in rows]
                distance = item_distance(shape, items, axis)
                values[rows, layer] = distance
                texture[rows] = torch.where(distance < 0, 2 * item_texture(items, axis) - 1, texture[rows])
    grounds = torch.tensor([(scene.ground.angle, scene.ground.offset) for scene in scenes])[:, :, None, None]
    angle, offset = grounds[:, 0], grounds[:, 1]
    values[:, 2] = (axis - 0.5) * angle.cos() + (axis[:, None] - 0.5) * angle.sin() - offset
    values[:, :3] = values[:, :3].clamp(-FAR, FAR) / UNIT
    tokens = values.unflatten(3, (side, POINTS)).unflatten(2, (side, POINTS))  # [B, channels, side, 2, side, 2]
    return tokens.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
