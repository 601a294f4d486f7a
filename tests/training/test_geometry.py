"""What tokens are asked for while a transformer trains."""

import torch

from hybridstitch.evaluation.world.scenes import read_caption, render, sample_scene
from training.geometry import FAR, UNIT, geometry


def _grid(scenes, side: int) -> torch.Tensor:
    """[B, 4, 2 side, 2 side]: the values at their points."""
    values = geometry(scenes, side).unflatten(2, (4, 2, 2)).unflatten(1, (side, side))  # [B, side, side, 4, 2, 2]
    return values.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def test_an_object_is_inside_where_its_picture_shows_it():
    scene = read_caption("a large plain white star on a maroon background")
    shown = render([scene], 32)[0].amin(0) > 0.6
    inside = _grid([scene], 16)[0, 0] < 0
    assert float((shown == inside).float().mean()) > 0.97


def test_the_second_object_has_a_channel_of_its_own_and_none_is_far_away():
    alone = sample_scene(next(seed for seed in range(99) if sample_scene(seed).relation is None))
    both = sample_scene(next(seed for seed in range(99) if sample_scene(seed).relation is not None))
    grids = _grid([alone, both], 8)
    torch.testing.assert_close(grids[0, 1], torch.full((16, 16), FAR / UNIT))
    assert float(grids[1, 1].min()) < 0


def test_texture_tells_first_from_second_colour_and_is_silent_outside():
    scene = read_caption("a large checkered white square on a maroon background")
    grid = _grid([scene], 16)[0]
    outside = grid[0] > 0
    assert not grid[3][outside].any()
    inside = grid[3][~outside]
    assert float(inside.min()) == -1
    assert float(inside.max()) == 1


def test_a_scene_does_not_depend_on_its_neighbours():
    scenes = [sample_scene(seed) for seed in range(9)]
    together = geometry(scenes, 8)
    for row, scene in enumerate(scenes):
        torch.testing.assert_close(together[row], geometry([scene], 8)[0])
