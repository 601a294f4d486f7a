"""The world that the demo pair is trained on."""

import math
from dataclasses import replace

import pytest
import torch

from hybridstitch.evaluation.world.scenes import (
    BACKGROUNDS,
    COLORS,
    GRAINS,
    LEAN,
    RADIUS_ALONE,
    RADIUS_PAIRED,
    RELATIONS,
    allowed,
    caption,
    held_out,
    read_caption,
    render,
    sample_scene,
)


def test_a_seed_gives_the_same_scene_and_the_same_picture():
    scenes = [sample_scene(seed) for seed in range(20)]
    assert scenes == [sample_scene(seed) for seed in range(20)]
    assert torch.equal(render(scenes, 32), render(scenes, 32))
    assert len({caption(scene) for scene in scenes}) > 15


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch():
    scenes = [sample_scene(seed) for seed in range(12)]
    together = render(scenes, 32)
    for index, scene in enumerate(scenes):
        torch.testing.assert_close(together[index], render([scene], 32)[0])


def test_a_caption_reads_back_to_a_scene_of_the_same_words():
    for seed in range(200):
        text = caption(sample_scene(seed))
        read = read_caption(text)
        assert caption(read) == text
        assert read == read_caption(text)


def test_a_caption_leaves_the_composition_open():
    """Scenes of one caption differ in all that it does not name, and the ranges of sizes never meet."""
    scenes = [sample_scene(seed) for seed in range(3000)]
    items = [(scene, item) for scene in scenes for item in scene.items]
    for axis in range(2):
        alone = [item.center[axis] for scene, item in items if scene.relation is None and item.size == "small"]
        assert min(alone) < 0.25
        assert max(alone) > 0.75
    assert {item.grain for _, item in items} == set(GRAINS)
    assert max(abs(item.lean) for _, item in items) <= LEAN
    assert {round(scene.ground.angle) for scene in scenes} == set(range(7))
    for ranges in (RADIUS_ALONE, RADIUS_PAIRED):
        assert ranges["small"][1] < 0.85 * ranges["large"][0]


def test_objects_keep_within_the_picture_and_apart():
    for seed in range(500):
        scene = sample_scene(seed)
        for item in scene.items:
            assert all(item.radius < place < 1 - item.radius for place in item.center)
        if scene.relation is not None:
            first, second = scene.items
            assert math.dist(first.center, second.center) > first.radius + second.radius


def test_a_sentence_of_another_form_is_refused():
    with pytest.raises(ValueError, match="not a caption of this world: 'a red star'; one reads like"):
        read_caption("a red star")


def test_held_out_captions_never_meet_training():
    trained = {caption(sample_scene(seed)) for seed in range(500)}
    kept = {caption(sample_scene(seed, held_out_only=True)) for seed in range(500)}
    assert not any(held_out(read_caption(text)) for text in trained)
    assert all(held_out(read_caption(text)) for text in kept)
    assert not trained & kept


def test_what_is_held_out_never_moves():
    assert held_out(read_caption("a large striped red star on a navy background")) is False
    share = (
        sum(
            held_out(read_caption(f"a large {t} {c} {s} on a grey background"))
            for t in ("plain", "dotted")
            for c in COLORS
            for s in ("star", "ring", "heart")
        )
        / 60
    )
    assert 0.02 < share < 0.4


def test_every_object_can_be_told_from_its_background():
    for seed in range(300):
        scene = sample_scene(seed)
        assert all(allowed(item.color, scene.background) for item in scene.items)
    for background in BACKGROUNDS:
        assert sum(allowed(color, background) for color in COLORS) >= 4


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_first_object_stands_where_the_relation_says(relation):
    text = f"a small plain white circle {relation} a small plain black square on a grey background"
    picture = render([read_caption(text)], 64)[0]
    white = (picture.amin(0) > 0.9).nonzero().float().mean(0)
    black = (picture.amax(0) < 0.1).nonzero().float().mean(0)
    down, right = (white - black).tolist()
    expected = {"left of": right < -20, "right of": right > 20, "above": down < -20, "below": down > 20}
    assert expected[relation]


def test_both_tones_of_a_background_and_its_edge_are_drawn():
    scene = read_caption("a small plain white circle on a grey background")
    ground = replace(scene.ground, angle=0.0, offset=0.25, shade=0.0)
    picture = render([replace(scene, ground=ground)], 64)[0, 0]
    left, right = picture[0, :46].mean(), picture[0, 50:].mean()
    assert float(left) > 1.2 * float(right)


def test_pictures_are_within_zero_and_one_at_any_size():
    for size in (32, 64, 128):
        picture = render([sample_scene(seed) for seed in range(8)], size)
        assert picture.shape == (8, 3, size, size)
        assert float(picture.min()) >= 0
        assert float(picture.max()) <= 1
