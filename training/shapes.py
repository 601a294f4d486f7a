"""The shapes of the world as signed distances, and its textures, as functions of coordinates."""

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond")
TEXTURES = ("plain", "striped", "dotted", "checkered")

STRIPE_PERIOD = 0.125  # all three as shares of the picture's width: coarse enough for the VAE to keep
DOT_SPACING = 0.135
CHECK_PERIOD = 0.17


def shape_distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to a shape about as wide as [-1, 1], negative inside; y points down. Any shape, kept."""
    match shape:
        case "circle":
            return torch.hypot(x, y) - 0.95
        case "ring":
            return (torch.hypot(x, y) - 0.69).abs() - 0.28
        case "square":
            return torch.maximum(x.abs(), y.abs()) - 0.85
        case "diamond":
            return (x.abs() / 0.72 + y.abs() / 1.05 - 1) / (0.72**-2 + 1.05**-2) ** 0.5
        case "triangle":
            return torch.maximum(y - 0.82, (x.abs() * 1.8 - y * 0.97 - 0.93) / (1.8**2 + 0.97**2) ** 0.5)
        case "cross":
            across, along = x.abs(), y.abs()
            return torch.minimum(torch.maximum(across - 0.95, along - 0.34), torch.maximum(along - 0.95, across - 0.34))
        case "star":
            return _star(x, -y)
        case "heart":
            return _heart(x * 0.6, 0.55 - y * 0.6) / 0.6
    raise ValueError(f"unknown shape {shape!r}; there are {', '.join(SHAPES)}")


def texture_weight(texture: str, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """How much of the texture's second colour lies at a point, 0 to 1; x, y from the object's centre in shares of
    the picture's width, `pixel` the width of one."""
    match texture:
        case "plain":
            return torch.zeros_like(x)
        case "striped":
            return _soft_square_wave(x + y, STRIPE_PERIOD * 2**0.5, pixel * 2**0.5)
        case "dotted":
            across = torch.remainder(x + DOT_SPACING / 2, DOT_SPACING) - DOT_SPACING / 2
            along = torch.remainder(y + DOT_SPACING / 2, DOT_SPACING) - DOT_SPACING / 2
            return (0.5 + (0.32 * DOT_SPACING - torch.hypot(across, along)) / pixel).clamp(0.0, 1.0)
        case "checkered":
            across = 2 * _soft_square_wave(x, CHECK_PERIOD, pixel) - 1
            along = 2 * _soft_square_wave(y, CHECK_PERIOD, pixel) - 1
            return 0.5 + 0.5 * across * along
    raise ValueError(f"unknown texture {texture!r}; there are {', '.join(TEXTURES)}")


def _soft_square_wave(position: Tensor, period: float, pixel: float) -> Tensor:
    """0 and 1 for half a period each, with edges one pixel wide."""
    folded = torch.remainder(position + period / 4, period) - period / 2
    signed = period / 4 - folded.abs()  # distance to the nearest edge
    return (0.5 + signed / pixel).clamp(0.0, 1.0)


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
