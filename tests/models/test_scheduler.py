"""Every option of a checkpoint's scheduler means what it means in diffusers, or is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils import import_utils

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.sigmas import noise_levels
from hybridstitch.models.scheduler import load_scheduler
from hybridstitch.models.sd3.compatibility import _check_scheduler

CPU = torch.device("cpu")
DRAWN: dict[str, dict[str, Any]] = {
    "plain": {},
    "shift": {"shift": 5.0},
    "fewer timesteps": {"num_train_timesteps": 500},
    "dynamic": {"use_dynamic_shifting": True},
    "dynamic, linear": {"use_dynamic_shifting": True, "time_shift_type": "linear", "max_shift": 2.0},
    "dynamic, to a terminal": {"use_dynamic_shifting": True, "shift_terminal": 0.02},
    "terminal": {"shift_terminal": 0.1},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "karras, to a terminal": {"use_karras_sigmas": True, "shift_terminal": 0.1},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "noise in every step": ({"stochastic_sampling": True}, "stochastic_sampling adds fresh noise in every step"),
    "backwards": ({"invert_sigmas": True}, "invert_sigmas goes from pictures to noise, for models of another family"),
    "two curves": (
        {"use_beta_sigmas": True, "use_karras_sigmas": True},
        "use_karras_sigmas and use_beta_sigmas are both set; choose one",
    ),
    "an unknown shift": (
        {"use_dynamic_shifting": True, "time_shift_type": "cubic"},
        "its options give no noise levels: `time_shift_type` must either be 'exponential' or 'linear'",
    ),
    "a word for a number": ({"shift": "three"}, "its options give no noise levels: "),
    "null for a number": ({"shift": None}, "its options give no noise levels: "),
    "a terminal of 1": ({"shift_terminal": 1.0}, "shift_terminal 1.0 needs at least 2 steps and a value under 1"),
    "no noise": ({"shift": 0.0}, "the scheduler's noise levels for 28 steps do not fall from one to the next: "),
}


@pytest.fixture
def folder(tmp_path):
    """Writes a scheduler with these options, beside the defaults of SD3."""

    def write(options: dict[str, Any], name: str = "scheduler") -> Path:
        place = tmp_path / name
        place.mkdir(parents=True)
        config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
        (place / "scheduler_config.json").write_text(json.dumps(config | options))
        return place

    return write


@pytest.mark.parametrize("steps", [2, 12, 28])
@pytest.mark.parametrize("options", DRAWN.values(), ids=DRAWN)
def test_every_option_leads_where_the_scheduler_of_diffusers_leads(folder, options, steps):
    place = folder(options)
    theirs: Any = FlowMatchEulerDiscreteScheduler.from_pretrained(str(place))
    shift = calculate_shift(1024, max_shift=theirs.config.max_shift)
    theirs.set_timesteps(steps, mu=shift if theirs.config.use_dynamic_shifting else None)
    levels = noise_levels(load_scheduler(place), steps, 1024, CPU)
    random = torch.Generator().manual_seed(3)
    there = here = torch.randn(1, 16, generator=random)
    for timestep, level in zip(theirs.timesteps, levels, strict=True):
        velocity = torch.randn(1, 16, generator=random)
        there = theirs.step(velocity, timestep, there).prev_sample
        here = here + level[2] * velocity
        assert float(level[3]) == float(timestep)
        assert torch.allclose(here, there, atol=1e-6)


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_options_that_no_picture_can_be_drawn_with_are_refused_in_one_line(folder, options, words):
    place = folder(options)
    with pytest.raises(HybridStitchError) as refusal:
        load_scheduler(place)
    assert str(refusal.value).startswith(f"{place}: ")
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_beta_sigmas_without_scipy_say_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(import_utils, "_scipy_available", False)
    with pytest.raises(HybridStitchError, match=r"use_beta_sigmas needs scipy; pip install scipy"):
        load_scheduler(folder({"use_beta_sigmas": True}))


def test_a_single_step_that_a_terminal_leaves_no_noise_level_for_is_refused(folder):
    scheduler = load_scheduler(folder({"shift_terminal": 0.1}))
    with pytest.raises(HybridStitchError, match=r"for 1 steps .*; shift_terminal 0.1 needs at least 2 steps"):
        noise_levels(scheduler, 1, 1024, CPU)


@pytest.mark.parametrize("options", DRAWN.values(), ids=DRAWN)
def test_two_models_with_the_same_options_are_a_pair(folder, options):
    large, small = folder(options, "large/scheduler"), folder(options, "small/scheduler")
    _check_scheduler(large.parent, small.parent)


def test_a_terminal_in_one_model_alone_is_named(folder):
    large, small = folder({"shift_terminal": 0.1}, "large/scheduler"), folder({}, "small/scheduler")
    with pytest.raises(HybridStitchError, match=r"scheduler setting shift_terminal is 0.1 in the large, None in the"):
        _check_scheduler(large.parent, small.parent)


def test_asking_for_noise_levels_leaves_the_scheduler_as_it_was(folder):
    scheduler = load_scheduler(folder({}))
    before = scheduler.timesteps.clone()
    noise_levels(scheduler, 5, 1024, CPU)
    assert torch.equal(scheduler.timesteps, before)
