"""Which model the loop calls at which step, as the models themselves see it."""

from typing import Any

import torch
from small_pair import SmallPair

from hybridstitch.method.program import make_program
from hybridstitch.method.sampler import Sampler
from hybridstitch.method.sigmas import levels
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.engine_models import EngineModels


class Recorded:
    """A pair whose calls are noted in their order."""

    def __init__(self, models: EngineModels) -> None:
        self.models, self.calls = models, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            return getattr(self.models, name)(*arguments)

        return call


def calls(method: str, **settings) -> list[str]:
    parameters = make_parameters(Recipe.load("demo"), method, steps=7, **settings)
    workspace = SmallPair().workspace(masked=8, program=make_program(parameters))
    workspace.state.exponent.fill_(3)
    recorded: Any = Recorded(EngineModels(workspace))
    sigmas = torch.linspace(1, 0, 8)
    for _ in Sampler(recorded, workspace.state, levels(sigmas, sigmas[:-1] * 1000), parameters):
        pass
    return recorded.calls


def test_t_stitch_calls_the_small_model_for_the_first_steps_and_then_the_large_one():
    assert calls("t-stitch", large_steps=3) == ["small"] * 4 + ["large"] * 3


def test_srdiffusion_calls_the_large_model_for_the_first_steps_and_then_the_small_one():
    assert calls("srdiffusion", large_steps=3, residual="off") == ["large"] * 3 + ["small"] * 4


def test_hybrid_freezes_once_between_the_large_and_the_hybrid_stage():
    expected = ["large"] * 2 + ["small", "freeze"] + ["hybrid"] * 3 + ["small"] * 2  # the extra call measures the gap
    settings = {"refresh_every": 0, "score": "gap", "sketch": "small"}
    assert calls("hybrid", large_steps=2, hybrid_steps=3, **settings) == expected


def test_held_tokens_need_the_small_model_for_the_steps_alone_that_it_draws():
    expected = ["large"] * 2 + ["freeze"] + ["masked"] * 3 + ["small"] * 2
    settings = {"refresh_every": 0, "score": "change", "sketch": "held", "residual": "off"}
    assert calls("hybrid", large_steps=2, hybrid_steps=3, **settings) == expected


def test_keys_and_values_are_kept_for_the_full_step_after_which_they_move_on_with_each_held_step():
    settings = {"refresh_every": 2, "score": "change", "sketch": "held", "residual": "off", "extrapolate": 0.5}
    held = ["masked", "move", "masked"]
    expected = ["large", "keep", "large", "freeze", *held, "keep", "large", "freeze", *held]
    assert calls("hybrid", large_steps=2, hybrid_steps=5, **settings) == expected
