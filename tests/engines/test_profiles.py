"""Which lengths an engine is built for, and what it says about others."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from hybridstitch.engines.builders.exported_graph import read_graph
from hybridstitch.engines.builders.recipe_profiles import profiles_of_plans
from hybridstitch.engines.profiles import Profile, best_profile, refusal
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import masked_count

from .handmade import GEOMETRY, make_recipe


@pytest.fixture
def large(exported):
    return read_graph(exported / "large")


@pytest.fixture
def small(exported):
    return read_graph(exported / "small")


def profiles_for(graph, recipe, **options):
    """Those of the only plan."""
    (profiles,) = profiles_of_plans(graph, recipe, **options).values()
    return profiles


def test_the_large_model_has_a_full_profile_and_one_for_each_bucket_of_mask_ratios(large):
    profiles = profiles_for(large, make_recipe(), geometry=GEOMETRY)
    assert [profile.name for profile in profiles] == ["full", "masked-15", "masked-30", "masked-50", "masked-over"]
    assert profiles[0].ranges == {"B": (1, 2, 4), "M": (12, 16, 16), "F": (0, 0, 0), "T": (3, 3, 3)}
    assert profiles[2].ranges["M"] == (3, 6, 6)
    assert profiles[2].ranges["F"] == (8, 10, 11)


def test_the_small_model_has_the_full_profile_alone(small):
    (profile,) = profiles_for(small, make_recipe(), geometry=GEOMETRY)
    assert (profile.name, profile.ranges["M"]) == ("full", (12, 16, 16))


def test_each_size_may_have_profiles_of_its_own_tuned_for_its_lengths(large, small):
    recipe = make_recipe(sizes=["32x32", "32x24", "24x32"], per_size=True)
    profiles = profiles_for(large, recipe, geometry=GEOMETRY)
    full = {profile.name: profile.ranges["M"] for profile in profiles if profile.name.startswith("full")}
    assert full == {"full-32x32": (16, 16, 16), "full-32x24": (12, 12, 12)}  # 24x32 has as many tokens as 32x24
    assert [profile.name for profile in profiles_for(small, recipe, geometry=GEOMETRY)] == list(full)
    for count in (16, 12):
        index = best_profile(profiles, {"B": 2, "M": masked_count(count, 0.5, 2), "F": count // 2, "T": 3})
        assert index is not None
        assert profiles[index].name == f"masked-50-{'32x32' if count == 16 else '32x24'}"


@pytest.mark.parametrize("per_size", [False, True])
@pytest.mark.parametrize("bucket", [1, 2, 4, 7])
def test_every_mask_of_every_size_has_a_profile(large, bucket, per_size):
    recipe = make_recipe(token_bucket=bucket, sizes=["32x32", "32x24", "64x64"], per_size=per_size)
    profiles = profiles_for(large, recipe, geometry=GEOMETRY)
    for count in (16, 12, 64):
        for masked in range(1, count + 1):
            lengths = {"B": 1, "M": masked, "F": count - masked, "T": 3}
            assert best_profile(profiles, lengths) is not None, lengths


@pytest.mark.parametrize("ratio", [0.15, 0.3, 0.5])
def test_a_bucket_is_tuned_for_the_mask_ratio_that_ends_it(large, ratio):
    recipe = make_recipe(sizes=["64x64", "32x32"], default_size="64x64")
    profiles = profiles_for(large, recipe, geometry=GEOMETRY)
    masked = masked_count(64, ratio, 2)
    index = best_profile(profiles, {"B": 2, "M": masked, "F": 64 - masked, "T": 3})
    assert index is not None
    assert profiles[index].name == f"masked-{ratio * 100:.0f}"
    assert profiles[index].ranges["M"][1] == masked


def test_a_static_batch_gives_each_batch_its_own_profile(small):
    profiles = profiles_for(small, make_recipe(), geometry=GEOMETRY, static_batch=True)
    assert [profile.ranges["B"] for profile in profiles] == [(1, 1, 1), (2, 2, 2), (4, 4, 4)]
    assert [profile.name for profile in profiles] == ["full-batch-1", "full-batch-2", "full-batch-4"]


def test_profiles_survive_json(large):
    profiles = profiles_for(large, make_recipe(), geometry=GEOMETRY)
    text = json.dumps([profile.as_json() for profile in profiles])
    assert TypeAdapter(tuple[Profile, ...]).validate_json(text) == profiles


def test_shapes_of_an_input_follow_from_the_ranges(large):
    profile = profiles_for(large, make_recipe(), geometry=GEOMETRY)[1]
    shapes = profile.shapes(large.inputs)
    assert shapes["frozen_key.0"] == ((1, 1, 10, 4), (2, 1, 12, 4), (4, 1, 15, 4))
    assert shapes["timestep"] == ((1,), (2,), (4,))


def test_a_length_outside_all_profiles_is_told_with_the_allowed_range():
    full = Profile("full", {"B": (1, 2, 8), "M": (256, 1024, 1024), "F": (0, 0, 0)})
    message = refusal("large", [full], {"B": 2, "M": 1536, "F": 0})
    assert message == "large engine: 1536 tokens; this plan has 256-1024"
    assert refusal("large", [full], {"B": 9, "M": 512, "F": 0}) == "large engine: 9 batch rows; this plan has 1-8"


def test_ranges_with_a_gap_are_told_one_by_one():
    profiles = [
        Profile(name, {"M": span}) for name, span in {"a": (1, 4, 8), "b": (16, 16, 16), "c": (5, 9, 9)}.items()
    ]
    assert refusal("small", profiles, {"M": 12}) == "small engine: 12 tokens; this plan has 1-9, 16"


def test_lengths_that_no_profile_holds_together_are_told_with_all_profiles(large):
    profiles = profiles_for(large, make_recipe(mask_ratios=[0.5]), geometry=GEOMETRY)
    assert refusal("large", profiles, {"B": 2, "M": 16, "F": 6, "T": 3}) == (
        "large engine: no profile holds 16 tokens with 6 frozen tokens; this plan has "
        "full: 12-16 tokens with 0 frozen tokens; masked-50: 1-8 tokens with 6-15 frozen tokens; "
        "masked-over: 7-15 tokens with 1-7 frozen tokens"
    )


def test_a_size_that_the_model_cannot_draw_is_refused(large):
    with pytest.raises(HybridStitchError, match=r"size 30x32 is not a multiple of 8 pixels on both sides"):
        profiles_for(large, make_recipe("30x32", sizes=["30x32"]), geometry=GEOMETRY)


def test_a_tensor_with_too_many_elements_is_refused(large):
    recipe = make_recipe("64x64", sizes=["64x64"], batch_sizes=[64])
    big = {**large.outputs, "velocity": type(large.outputs["velocity"])("float32", ("B", "M", 2**20))}
    with pytest.raises(HybridStitchError, match=r"velocity would have 8589934592 elements .* lower the recipe's batch"):
        profiles_for(type(large)(**{**vars(large), "outputs": big}), recipe, geometry=GEOMETRY)


def test_a_range_that_does_not_ascend_is_refused():
    with pytest.raises(HybridStitchError, match=r"profile full: M has the range 5, 4, 6, which does not ascend"):
        Profile("full", {"M": (5, 4, 6)})
