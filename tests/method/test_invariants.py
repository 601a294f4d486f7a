"""What must always hold of the method, on real (small, random) SD3 models."""

import pytest
import torch
from small_pair import SmallPair

from hybridstitch.method.masks import Mask, hardest
from hybridstitch.method.parameters import SamplingParameters, Score, Sketch
from hybridstitch.method.schedule import Schedule, Stage
from hybridstitch.method.state import STATE
from hybridstitch.method.tokens import gather, unpatchify
from hybridstitch.runtime.engine_models import EngineModels

KINDS = [{"dual": dual, "qk_norm": qk_norm} for dual in (False, True) for qk_norm in (False, True)]
every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=lambda kind: "-".join(k for k, v in kind.items() if v) or "plain"
)


def parameters(large=2, hybrid=3, steps=7, **options) -> SamplingParameters:
    refresh, guidance = options.pop("refresh_every", 0), options.pop("guidance", 3.0)
    schedule = Schedule(steps, large, large + hybrid, refresh_every=refresh)
    return SamplingParameters("hybrid", schedule, guidance, **{"mask_ratio": 0.4, **options})


LARGE = SamplingParameters("large", Schedule(7, 7, 7), 3.0)
SMALL = SamplingParameters("small", Schedule(7, 0, 0), 3.0)


def random_mask(batch: int, tokens: int, count: int) -> Mask:
    order = torch.stack([torch.randperm(tokens) for _ in range(batch)])
    return Mask(order[:, :count], order[:, count:])


@every_kind
@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (7, 1)])
def test_a_masked_call_with_same_step_keys_equals_the_same_rows_of_the_full_call(kind, grid):
    pair = SmallPair(**kind, rows=grid[0], columns=grid[1], batch=2)
    workspace, timestep = pair.workspace(masked=5), torch.tensor(700.0)
    models, state = EngineModels(workspace), workspace.state
    models.large(pair.noise, timestep, state.velocity)
    mask = random_mask(2, grid[0] * grid[1], 5)
    models.freeze(mask)
    models.hybrid(pair.noise, timestep, mask, state.masked_velocity, state.sketch)
    torch.testing.assert_close(state.masked_velocity, gather(state.velocity, mask.computed), atol=2e-5, rtol=2e-5)


@every_kind
def test_permuting_the_masked_tokens_permutes_the_rows_and_changes_nothing_else(kind):
    pair = SmallPair(**kind)
    workspace, timestep = pair.workspace(masked=7), torch.tensor(400.0)
    models, state = EngineModels(workspace), workspace.state
    models.large(pair.noise, torch.tensor(500.0), state.velocity)
    mask, order = random_mask(1, 24, 7), torch.randperm(7)
    drawn = []
    for each in (mask, Mask(mask.computed[:, order], mask.frozen.flip(1))):
        models.freeze(each)
        models.hybrid(pair.noise, timestep, each, state.masked_velocity, state.sketch)
        drawn.append((state.masked_velocity.clone(), state.sketch.clone()))
    (rows, small), (shuffled_rows, shuffled_small) = drawn
    torch.testing.assert_close(shuffled_rows, rows[:, order], atol=1e-5, rtol=1e-5)
    assert torch.equal(small, shuffled_small)


@every_kind
def test_a_mask_of_all_tokens_is_large_only(kind):
    pair = SmallPair(**kind, batch=2)
    whole, _ = pair.sample(parameters(hybrid=5, mask_ratio=1.0))
    torch.testing.assert_close(whole, pair.sample(LARGE)[0], atol=1e-4, rtol=1e-4)


@every_kind
def test_a_mask_of_none_is_small_only_from_that_step_on(kind):
    pair = SmallPair(**kind, batch=2)
    none, _ = pair.sample(parameters(mask_ratio=0.0))
    switched, _ = pair.sample(SamplingParameters("srdiffusion", Schedule(7, 2, 2), 3.0))
    assert torch.equal(none, switched)


@every_kind
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("grid", [(4, 6), (5, 3)])
def test_an_image_is_the_same_alone_and_in_a_batch(kind, guidance, grid):
    size = {"rows": grid[0], "columns": grid[1]}
    settings = parameters(guidance=guidance, residual=2.0, refresh_every=1, hybrid=4)
    batch, _ = SmallPair(**kind, **size, batch=3, guidance=guidance).sample(settings)
    for image in range(3):
        alone, _ = SmallPair(**kind, **size, images=[image], guidance=guidance).sample(settings)
        torch.testing.assert_close(batch[image], alone[0], atol=1e-4, rtol=1e-4)


@every_kind
@pytest.mark.parametrize("name", ["large", "small"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_one_model_alone_is_the_diffusers_loop(kind, name, guidance):
    pair = SmallPair(**kind, rows=5, columns=3, guidance=guidance)
    ours, _ = pair.sample(SamplingParameters(name, {"large": LARGE, "small": SMALL}[name].schedule, guidance))
    sigmas, x = torch.linspace(1, 0, 8) ** 0.7, pair.latents
    with torch.no_grad():
        for step in range(7):
            doubled = torch.cat([x] * len(pair.text))
            timestep = (sigmas[step] * 1000).expand(len(pair.text))
            velocity = pair.diffusers[name](doubled, pair.text, pair.pooled, timestep, return_dict=False)[0]
            if guidance > 1:
                negative, positive = velocity.chunk(2)
                velocity = negative + guidance * (positive - negative)
            x = x + (sigmas[step + 1] - sigmas[step]) * velocity
    torch.testing.assert_close(unpatchify(ours, 2, 5, 3), x, atol=1e-4, rtol=1e-4)


def test_the_stages_call_each_model_on_the_tokens_of_the_table():
    pair = SmallPair()
    pair.sample(parameters(large=2, hybrid=3, steps=7), token_bucket=4)
    full, masked = (24, 0), (12, 12)  # 40 % of 24 tokens, in buckets of 4
    assert pair.engines["large"].calls == [full] * 2 + [masked] * 3
    assert pair.engines["small"].calls == [full] * (1 + 3 + 2)  # one to measure the gap


@every_kind
def test_a_held_token_goes_on_with_the_velocity_of_the_last_full_step(kind):
    pair = SmallPair(**kind, batch=2)
    sampler, state = pair.sampler(parameters(large=2, hybrid=2, steps=4, score=Score.CHANGE, sketch=Sketch.HELD))
    velocities = [state.velocity.clone() for _ in sampler]
    for step in (2, 3):
        assert torch.equal(gather(velocities[step], state.frozen), gather(velocities[1], state.frozen))
        assert not torch.equal(gather(velocities[step], state.computed), gather(velocities[1], state.computed))


def test_a_mask_of_all_tokens_is_large_only_where_the_rest_is_held_too():
    pair = SmallPair(batch=2)
    whole, _ = pair.sample(parameters(hybrid=5, mask_ratio=1.0, sketch=Sketch.HELD))
    torch.testing.assert_close(whole, pair.sample(LARGE)[0], atol=1e-4, rtol=1e-4)


def test_a_mask_of_none_holds_every_token():
    pair = SmallPair()
    sampler, state = pair.sampler(parameters(large=2, hybrid=5, mask_ratio=0.0, score=Score.CHANGE, sketch=Sketch.HELD))
    velocities = [state.velocity.clone() for _ in sampler]
    assert all(torch.equal(velocity, velocities[1]) for velocity in velocities[2:])


def test_where_the_rest_is_held_the_small_model_is_called_for_the_gap_and_the_small_stage_alone():
    for settings, calls in [
        ({"score": Score.CHANGE}, 2),  # of the small stage
        ({"score": Score.CHANGE, "residual": 2.0}, 2 + 1),
        ({"score": Score.CHANGE, "residual": 2.0, "hybrid": 5}, 0),  # nobody would use a residual
        ({"score": Score.CHANGE, "residual": 2.0, "hybrid": 4, "refresh_every": 1}, 1 + 1),  # after the last full one
        ({"score": Score.GAP}, 2 + 1),
    ]:
        pair = SmallPair()
        pair.sample(parameters(sketch=Sketch.HELD, **settings))
        assert len(pair.engines["small"].calls) == calls, settings


def test_a_small_stage_after_held_tokens_carries_the_residual_of_the_last_full_step():
    pair = SmallPair()
    sampler, state = pair.sampler(parameters(score=Score.CHANGE, sketch=Sketch.HELD, residual=2.0))
    residuals = [state.difference.clone() for _ in sampler]
    assert all(torch.equal(residual, residuals[1]) for residual in residuals[2:])


def test_nothing_is_measured_that_the_plan_does_not_need():
    pair = SmallPair()
    pair.sample(parameters(score=Score.CHANGE))
    assert len(pair.engines["small"].calls) == 3 + 2
    pair = SmallPair()
    pair.sample(SamplingParameters("srdiffusion", Schedule(7, 3, 3), 3.0))
    assert len(pair.engines["small"].calls) == 4


def test_a_refresh_renews_keys_and_mask():
    pair = SmallPair()
    masks = []

    def choose(scores, count):
        masks.append(hardest(scores, count))
        return masks[-1]

    _, sampler = pair.sample(parameters(large=2, hybrid=5, steps=7, refresh_every=2), choose=choose)
    assert [full for full, _ in pair.engines["large"].calls] == [24, 24, 10, 10, 24, 10, 10]
    assert sampler.hybrid_steps == 4
    assert len(masks) == 2
    assert not torch.equal(masks[0].computed, masks[1].computed)


def test_how_often_a_token_was_refined_is_counted_in_hybrid_steps():
    sampler, state = SmallPair(batch=2).sampler(parameters(large=2, hybrid=5, steps=7, refresh_every=2))
    for _ in sampler:
        pass
    assert state.refined.sum(1).tolist() == [4 * 10, 4 * 10]
    assert set(state.refined.flatten().tolist()) <= {0, 2, 4}
    assert state.refined.gather(1, state.computed).min() >= 2


def test_the_carried_residual_changes_only_what_the_large_model_does_not_compute():
    pair = SmallPair()
    first: dict[float | None, torch.Tensor] = {}
    mask = Mask(torch.empty(0), torch.empty(0))
    for exponent in (None, 3.0):
        sampler, state = pair.sampler(parameters(residual=exponent))
        for step in sampler:
            if step.index == 2:  # the first hybrid step
                first[exponent] = state.preview()
                mask = state.mask
    assert torch.equal(gather(first[None], mask.computed), gather(first[3.0], mask.computed))
    assert not torch.equal(gather(first[None], mask.frozen), gather(first[3.0], mask.frozen))


def test_a_fully_carried_residual_repeats_the_large_model_at_the_step_it_was_measured():
    """At equal sigma the correction is the whole difference: the small model becomes the large one."""
    pair = SmallPair()
    sigmas = torch.tensor([1.0, 1.0, 0.0])  # a step of length zero: the same x, the same sigma
    ours, _ = pair.sample(SamplingParameters("srdiffusion", Schedule(2, 1, 1), 3.0, residual=0.0), sigmas=sigmas)
    large, _ = pair.sample(SamplingParameters("large", Schedule(2, 2, 2), 3.0), sigmas=sigmas)
    torch.testing.assert_close(ours, large, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("threshold", "expected"), [(0.999999, (2, 3)), (1e-9, (7, 7))])
def test_adaptive_switching_leaves_a_stage_once_its_estimate_settles(threshold, expected):
    pair = SmallPair()
    _, sampler = pair.sample(SamplingParameters("hybrid", Schedule(7, 7, 7), 3.0, adaptive=threshold))
    assert (sampler.schedule.large_until, sampler.schedule.hybrid_until) == expected


def test_adaptive_switching_on_srdiffusion_goes_straight_to_the_small_model():
    sampler, _ = SmallPair().sampler(SamplingParameters("srdiffusion", Schedule(7, 7, 7), 3.0, adaptive=0.999999))
    assert [step.stage for step in sampler] == [Stage.LARGE] * 2 + [Stage.SMALL] * 5


def test_an_adaptive_run_equals_the_fixed_run_that_it_finds():
    pair = SmallPair()
    adaptive, found = pair.sample(SamplingParameters("hybrid", Schedule(7, 7, 7), 3.0, adaptive=0.999999, residual=2.0))
    fixed, _ = pair.sample(SamplingParameters("hybrid", found.schedule, 3.0, residual=2.0))
    assert torch.equal(adaptive, fixed)


def test_a_run_that_nobody_drives_any_more_has_stopped():
    pair = SmallPair()
    sampler, state = pair.sampler(LARGE)
    steps = iter(sampler)
    next(steps)
    x = state.x.clone()
    del steps
    assert len(pair.engines["large"].calls) == 1
    assert torch.equal(state.x, x)


def test_each_image_of_a_batch_has_its_own_guidance_and_residual_exponent():
    pair, settings = SmallPair(batch=2), parameters(residual=1.0)
    sampler, state = pair.sampler(settings)
    state.guidance[1], state.exponent[1] = 7.0, 3.0
    for _ in sampler:
        pass
    for image, (guidance, exponent) in enumerate([(3.0, 1.0), (7.0, 3.0)]):
        alone, _ = SmallPair(images=[image]).sample(parameters(guidance=guidance, residual=exponent))
        torch.testing.assert_close(state.x[image], alone[0], atol=1e-4, rtol=1e-4)


def test_every_tensor_of_a_run_stays_where_it_is():
    sampler, state = SmallPair().sampler(parameters(refresh_every=1, residual=2.0))
    before = {name: getattr(state, name).data_ptr() for name in STATE}
    for _ in sampler:
        assert {name: getattr(state, name).data_ptr() for name in STATE} == before
