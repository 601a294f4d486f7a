"""The judge of whether a picture shows what its caption says."""

from dataclasses import replace

from training.fidelity import attribute_accuracy
from training.world import caption, read_caption, render, sample_scene


def test_a_true_picture_is_right_in_everything():
    scenes = [sample_scene(seed, held_out_only=True) for seed in range(6)]
    accuracy = attribute_accuracy(render(scenes), scenes)
    assert accuracy == dict.fromkeys(accuracy, 1.0)
    assert set(accuracy) == {"shape", "color", "texture", "size", "background", "place", "all"}


def test_a_wrong_value_costs_its_own_attribute():
    told = read_caption("a large striped red star left of a small plain white circle on a navy background")
    first, second = told.items
    for name, value in (("shape", "heart"), ("color", "green"), ("texture", "dotted")):
        drawn = replace(told, items=(replace(first, **{name: value}), second))
        accuracy = attribute_accuracy(render([drawn]), [told])
        assert accuracy[name] == 0.5, name
        assert accuracy["all"] == 0
    drawn = read_caption(caption(replace(told, relation="right of")))
    assert attribute_accuracy(render([drawn]), [told])["place"] == 0
