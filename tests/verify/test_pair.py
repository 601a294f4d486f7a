"""Verifying a built pair: healthy engines pass, wrong ones do not, and the stages say more than the calls."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from damage import damage, one_weight, swap_keys_and_values
from small_pair import SmallPair

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.masks import Mask
from hybridstitch.method.sigmas import levels
from hybridstitch.verify.report import Report
from hybridstitch.verify.stages import SCHEDULES, Setting, Side, StageReport, compare_stage, run_stage
from hybridstitch.verify.verify_pair import verify_pair


def test_the_demo_pairs_engines_are_right_in_every_profile_and_stage(verified):
    assert verified.failures == []
    assert {(row.component, row.profile) for row in verified.profiles} == {
        ("text_encoder", "full"),
        ("text_encoder_2", "full"),
        ("large", "full"),
        *(("large", f"masked-{name}") for name in ("15", "30", "50", "over")),
        ("small", "full"),
        ("vae_decoder", "full"),
    }
    assert [stage.stage for stage in verified.stages] == ["large", "hybrid", "small"]


def test_every_output_is_compared_and_the_worst_one_is_named(verified):
    masked = next(row for row in verified.profiles if row.profile == "masked-30")
    outputs = {found.output for case in masked.cases for found in case.comparisons}
    layers = range(len(outputs) // 2)
    assert outputs == {"velocity", *(f"{kind}.{layer}" for kind in ("key", "value") for layer in layers)}
    profile, case, found = verified.worst
    assert found.output in outputs
    severities = [
        other.severity(row.bounds) for row in verified.profiles for report in row.cases for other in report.comparisons
    ]
    assert found.severity(profile.bounds) == max(severities)
    assert case in [report.case for report in profile.cases]


def test_healthy_engines_stay_well_within_the_bounds(verified):
    """Half of the bounds are free: what rounds a little otherwise still passes, what is wrong does not."""
    for row in verified.profiles:
        for case in row.cases:
            assert all(found.severity(row.bounds) < 0.5 for found in case.comparisons)
    for stage in verified.stages:
        assert stage.tokens.severity(stage.bounds) < 0.5


@pytest.fixture
def mine(demo_engines, tmp_path) -> Path:
    """The demo pair's engines, to be changed."""
    return Path(shutil.copytree(demo_engines, tmp_path / "onnxruntime"))


def verify(folder: Path, component: str) -> Report:
    return verify_pair("demo", engines=folder, components=[component], quick=True)


def test_the_sign_of_one_weight_among_millions_is_caught(mine):
    damage(mine, "small", one_weight(lambda value: -value))
    report = verify(mine, "small")
    assert len(report.failures) == len(report.profiles[0].cases)
    assert report.failures[0].startswith("small, full opt (B 2, M 256, T 25), velocity: relative L2 ")


def test_swapped_keys_and_values_are_caught_in_every_profile(mine):
    damage(mine, "large", swap_keys_and_values)
    report = verify(mine, "large")
    assert all(row.failures for row in report.profiles)
    assert not any("velocity" in line for line in report.failures)
    assert "the engines are of other weights" in str(report.advice)


def test_a_decoder_that_gives_nan_is_caught(mine):
    damage(mine, "vae_decoder", one_weight(lambda _: float("nan"), dims=4))
    assert "vae_decoder, full opt" in verify(mine, "vae_decoder").failures[0]
    assert "NaN or infinity" in verify(mine, "vae_decoder").failures[0]


def test_an_engine_of_another_pair_is_refused(demo_engines, tmp_path):
    recipe = (Path(__file__).parents[2] / "hybridstitch" / "pairs" / "demo.toml").read_text()
    (tmp_path / "other.toml").write_text(recipe.replace('name = "demo"', 'name = "other"'))
    with pytest.raises(HybridStitchError, match="engines of pair 'demo', not of 'other'"):
        verify_pair(tmp_path / "other.toml", engines=demo_engines)


# The stages, on a small pair whose engines are PyTorch's own.


def setting(pair: SmallPair) -> Setting:
    def table(steps: int) -> torch.Tensor:
        sigmas = torch.linspace(1, 0, steps + 1) ** 0.7
        return levels(sigmas, sigmas[:-1] * 1000)

    return Setting(
        geometry=pair.engines["large"].module.geometry(vae_factor=4, text_tokens=5),
        size=pair.size,
        noise=pair.noise,
        levels={stage: table(schedule.steps) for stage, schedule in SCHEDULES.items()},
        text=pair.text,
        pooled=pair.pooled,
        guidance=pair.guidance,
        mask_ratio=0.3,
        residual=3.0,
        token_bucket=2,
    )


def side(pair: SmallPair, turn: int = 0) -> Side:
    """turn: how far the position tables are rolled."""
    tables = {
        name: model.get_buffer("pos_embed.pos_embed").reshape(12, 12, -1).roll(turn, dims=0)
        for name, model in pair.diffusers.items()
    }
    return Side(pair.engines["large"], pair.engines["small"], tables)  # type: ignore[arg-type]


def compare_sides(stage: str, ours: Side, theirs: Side, given: Setting) -> StageReport:
    from hybridstitch.verify.compare import LEAST_SAME_MASK, RUN_BOUNDS

    reference = run_stage(theirs, stage, given)
    run = run_stage(ours, stage, given, follow=reference.masks)
    return compare_stage(stage, run, reference, RUN_BOUNDS["float32"], LEAST_SAME_MASK["float32"])


@pytest.mark.parametrize("stage", SCHEDULES)
def test_a_stage_of_the_same_pair_is_the_same(stage):
    pair = SmallPair(batch=2)
    report = compare_sides(stage, side(pair), side(pair), setting(pair))
    assert report.failures == []
    assert report.same_mask == (1.0 if stage == "hybrid" else None)


def test_the_hybrid_stage_freezes_keys_twice_and_runs_masked_between():
    pair = SmallPair()
    assert len(run_stage(side(pair), "hybrid", setting(pair)).masks) == 2
    assert [frozen for _, frozen in pair.engines["large"].calls] == [0, 0, 16, 16, 0, 16]


@pytest.mark.parametrize("stage", SCHEDULES)
def test_a_wrong_position_table_which_no_single_call_can_see_shows_in_the_stages(stage):
    pair = SmallPair()
    report = compare_sides(stage, side(pair, turn=1), side(pair), setting(pair))
    assert any(line.startswith(f"{stage} stage, tokens: relative L2") for line in report.failures)


def test_another_choice_of_mask_is_a_failure_of_its_own():
    pair, given = SmallPair(), setting(SmallPair())
    run = run_stage(side(pair), "hybrid", given)
    others = tuple(Mask(mask.frozen[:, : mask.computed.shape[1]], mask.frozen) for mask in run.masks)
    from hybridstitch.verify.compare import RUN_BOUNDS

    report = compare_stage("hybrid", run, type(run)(run.tokens, others, 0.0), RUN_BOUNDS["float32"], 0.98)
    assert report.failures == ["hybrid stage, mask: 0.0% of its tokens are the reference's, at least 98%"]


def test_a_run_follows_the_masks_that_it_is_given_and_tells_its_own_choice():
    pair, given = SmallPair(), setting(SmallPair())
    own = run_stage(side(pair), "hybrid", given)
    reversed_masks = [
        Mask(*torch.cat([mask.computed, mask.frozen], dim=1).flip(1).split([8, 16], dim=1)) for mask in own.masks
    ]
    followed = run_stage(side(pair), "hybrid", given, follow=reversed_masks)
    assert torch.equal(followed.masks[0].computed, own.masks[0].computed)
    assert not torch.allclose(followed.tokens, own.tokens)


def test_nan_in_a_stage_names_the_engine_and_the_step():
    pair, given = SmallPair(), setting(SmallPair())
    with torch.no_grad():
        pair.engines["large"].module.proj_out.bias.fill_(float("nan"))
    with pytest.raises(HybridStitchError, match="large, step 1, gave NaN"):
        run_stage(side(pair), "large", given)


def test_a_stage_that_cannot_run_is_a_failure_and_the_others_still_run(mine):
    damage(mine, "large", one_weight(lambda _: float("nan")))
    report = verify_pair("demo", engines=mine, quick=True)
    off = {stage.stage: stage.failures for stage in report.stages}
    assert "large stage, tokens: it cannot run: large, step 1, gave NaN or infinity" in off["large"][0]
    assert off["hybrid"]
    assert off["small"] == []
    assert {row.component for row in report.profiles if row.failures} == {"large"}
