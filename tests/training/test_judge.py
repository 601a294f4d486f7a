"""The judge of whether a picture shows what its caption says."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import training.judge
from hybridstitch.evaluation.world.judge import (
    ARRANGEMENTS,
    ATTRIBUTES,
    GROUNDS,
    Judge,
    attribute_accuracy,
    load_judge,
    targets,
)
from hybridstitch.evaluation.world.scenes import Scene, read_caption, render, sample_scene
from training.judge import accuracy_on_true_pictures as accuracy_on
from training.judge import train_judge


class Oracle:
    """A judge that sees the given scenes for what they are."""

    def __init__(self, drawn: list[Scene]) -> None:
        self.drawn = drawn

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        wanted = targets(self.drawn)
        sizes = {name: len(values) for name, values in ATTRIBUTES.items()}
        sizes |= {"arrangement": len(ARRANGEMENTS), "background": len(GROUNDS)}
        logits = {name: torch.full((*values.shape, sizes[name]), -9.0) for name, values in wanted.items()}
        for name, values in wanted.items():
            logits[name].scatter_(-1, values.clamp(min=0)[..., None], 9.0)
        return logits


def _accuracy(drawn: Scene, told: Scene) -> dict[str, float]:
    return attribute_accuracy(Oracle([drawn]), torch.zeros(1, 3, 128, 128), [told])  # pyright: ignore


def test_a_picture_as_told_is_right_in_everything():
    for seed in range(40):
        scene = sample_scene(seed)
        accuracy = _accuracy(scene, scene)
        assert accuracy == dict.fromkeys(accuracy, 1.0)
        assert set(accuracy) == {"shape", "color", "texture", "size", "background", "place", "all"}


def test_a_wrong_value_costs_its_own_attribute_alone():
    told = read_caption("a large striped red star left of a small plain white circle on a navy background")
    first, second = told.items
    for name, value in (("shape", "heart"), ("color", "green"), ("texture", "dotted"), ("size", "small")):
        accuracy = _accuracy(replace(told, items=(replace(first, **{name: value}), second)), told)
        assert accuracy[name] == 0.5, name
        assert accuracy["all"] == 0
        assert all(share == 1 for other, share in accuracy.items() if other not in (name, "all"))
    assert _accuracy(replace(told, background="sand"), told)["background"] == 0


def test_objects_in_each_others_place_are_wrong_in_place_alone():
    told = read_caption("a large striped red star left of a small plain white circle on a navy background")
    for relation in ("right of", "above", "below"):
        accuracy = _accuracy(replace(told, relation=relation), told)
        assert accuracy["place"] == 0, relation
        assert accuracy["shape"] == accuracy["color"] == accuracy["texture"] == accuracy["size"] == 1, relation


def test_an_object_too_few_or_too_many_is_wrong_in_place():
    two = read_caption("a large striped red star left of a small plain white circle on a navy background")
    one = replace(two, items=two.items[:1], relation=None)
    assert _accuracy(one, two)["place"] == 0
    assert _accuracy(two, one)["place"] == 0


def test_what_lies_above_is_not_asked_of_objects_side_by_side():
    beside = targets([read_caption("a large plain red star left of a small plain white circle on a navy background")])
    assert beside["shape"].tolist()[0][2:] == [-1, -1]
    assert (beside["shape"][0, :2] >= 0).all()


def test_a_judge_learns_and_comes_back_from_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(training.judge, "BATCH", 4)
    monkeypatch.setattr(training.judge, "accuracy_on_true_pictures", lambda judge, _: accuracy_on(judge, 4))
    torch.manual_seed(0)
    untrained = Judge().state_dict()
    judge = train_judge(tmp_path, 8, 0, torch.device("cpu"))
    assert any(not torch.equal(value, untrained[name]) for name, value in judge.named_parameters())
    again = load_judge(tmp_path / "judge.safetensors")
    pictures = render([sample_scene(seed) for seed in range(2)])
    for name, values in judge.eval()(pictures).items():
        torch.testing.assert_close(again(pictures)[name], values, rtol=0.02, atol=0.02)


def test_a_judge_takes_no_picture_of_another_size():
    with pytest.raises(RuntimeError):
        Judge()(torch.zeros(1, 3, 64, 64))
