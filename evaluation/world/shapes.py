"""The shapes of the world as signed distances, and its textures, as functions of coordinates."""

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
TEXTURES = ("plain", "striped", "dotted", "checkered")


def shape_distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to a shape about as wide as [-1, 1], negative inside; y points down. Any shape, kept."""
    match shape:
        case "circle":
            return torch.hypot(x, y) - 0.94
        case "ring":
            return (torch.hypot(x, y) - 0.64).abs() - 0.32
        case "square":
            return torch.maximum(x.abs(), y.abs()) - 0.80
        case "triangle":
            return torch.maximum(y - 0.76, (x.abs() * 1.8 - y * 0.97 - 0.93) / (1.8**2 + 0.97**2) ** 0.5)
        case "star":
            return _star(x, -y)
        case "heart":
            return _heart(x * 0.6, 0.55 - y * 0.6) / 0.6
    raise ValueError(f"unknown shape {shape!r}; there are {', '.join(SHAPES)}")


def texture_weight(texture: str, x: Tensor, y: Tensor, period: Tensor, pixel: float) -> Tensor:
    """How much of the texture's second colour lies at a point, 0 to 1; x, y from the object's centre along the
    texture's own axes, `period` and `pixel` (the width of one) all in shares of the picture's width."""
    match texture:
        case "plain":
            return torch.zeros_like(x)
        case "striped":
            return _soft_square_wave(x, period, pixel)
        case "dotted":
            return (0.5 + (0.29 * period - _to_hexagonal_grid(x, y, period)) / pixel).clamp(0.0, 1.0)
        case "checkered":
            across = 2 * _soft_square_wave(x, 1.2 * period, pixel) - 1
            along = 2 * _soft_square_wave(y, 1.2 * period, pixel) - 1
            return 0.5 + 0.5 * across * along
    raise ValueError(f"unknown texture {texture!r}; there are {', '.join(TEXTURES)}")


def _soft_square_wave(position: Tensor, period: Tensor, pixel: float) -> Tensor:
    """0 and 1 for half a period each, with edges one pixel wide."""
    folded = torch.remainder(position + period / 4, period) - period / 2
    signed = period / 4 - folded.abs()  # distance to the nearest edge
    return (0.5 + signed / pixel).clamp(0.0, 1.0)


def _to_hexagonal_grid(x: Tensor, y: Tensor, spacing: Tensor) -> Tensor:
    """Distance to the nearest point of a grid in which every point has six neighbours at `spacing`; the origin is one
    of them. Two rectangular grids, shifted by half a cell, make it."""
    row = spacing * 3**0.5
    distances = []
    for shift in (0.0, 0.5):
        across = torch.remainder(x + (shift + 0.5) * spacing, spacing) - spacing / 2
        along = torch.remainder(y + (shift + 0.5) * row, row) - row / 2
        distances.append(torch.hypot(across, along))
    return torch.minimum(*distances)


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points, by folding the plane: https://iquilezles.org/articles/distfunctions2d (sdStar5)."""
    cos, sin, inner = 0.809017, 0.587785, 0.47
    x = x.abs()
    fold = (cos * x - sin * y).clamp(min=0)
    x, y = x - 2 * cos * fold, y + 2 * sin * fold
    fold = (-cos * x - sin * y).clamp(min=0)
    x, y = x + 2 * cos * fold, y + 2 * sin * fold
    x, y = x.abs(), y - 1.0
    edge_x, edge_y = inner * sin, inner * cos - 1.0
    along = ((x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2)).clamp(0.0, 1.0)
    return torch.hypot(x - edge_x * along, y - edge_y * along) * torch.sign(y * edge_x - x * edge_y)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """https://iquilezles.org/articles/distfunctions2d (sdHeart), y up, from 0 to 1.1."""
    x = x.abs()
    lobe = torch.hypot(x - 0.25, y - 0.75) - 2**0.5 / 4
    slope = 0.5 * (x + y).clamp(min=0)
    tip = torch.minimum(torch.hypot(x, y - 1.0), torch.hypot(x - slope, y - slope)) * torch.sign(x - y)
    return torch.where(x + y > 1.0, lobe, tip)
