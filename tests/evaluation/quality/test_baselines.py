import pytest
import torch

from hybridstitch import HybridStitch
from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.quality.ablations import ABLATIONS, drawable, methods, sketch_said
from hybridstitch.evaluation.quality.baselines import ALONE, ORACLE, RANDOM, aided, draw
from hybridstitch.evaluation.variants import HYBRID, LARGE, PAPER
from hybridstitch.method.errors import HybridStitchError

CASE = PromptCase("a large red star on a navy background", 3)
QUICK = HYBRID.but(steps=3, large_steps=1, hybrid_steps=1, **PAPER)

MOST = QUICK.but(mask_ratio=0.9375)  # 240 tokens of 256, which the profile of full calls holds too


@pytest.fixture(scope="module")
def pipe(demo_engines):
    with HybridStitch.load("demo", engines=demo_engines) as pipe:
        yield pipe


def test_an_aid_chooses_other_tokens_and_always_the_same(pipe):
    masks = {}
    for aid in (None, RANDOM, ORACLE):
        first, second = (draw(pipe, QUICK.but(aid=aid), CASE)[0].refined for _ in range(2))
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)
        assert first.sum() == 80  # M of 256 tokens at 30 %
        masks[aid] = first
    assert not torch.equal(masks[RANDOM], masks[None])
    assert not torch.equal(masks[ORACLE], masks[None])
    with pytest.raises(ValueError, match="no such aid"):
        aided(pipe, QUICK.but(aid="luck"), CASE)


def test_masked_tokens_alone_are_the_same_ones_with_other_values(pipe):
    beside, alone = (draw(pipe, MOST.but(aid=aid), CASE)[0] for aid in (None, ALONE))
    assert beside.refined is not None
    assert alone.refined is not None
    assert torch.equal(beside.refined, alone.refined)
    assert not torch.equal(beside.latents, alone.latents)
    whole, seen = (draw(pipe, MOST.but(aid=aid, mask_ratio=1.0), CASE)[0] for aid in (None, ALONE))
    torch.testing.assert_close(seen.latents, whole.latents, atol=1e-4, rtol=1e-4)  # there is nothing else to see
    with pytest.raises(HybridStitchError, match="no profile holds 80 tokens with 0 frozen tokens"):
        draw(pipe, QUICK.but(aid=ALONE), CASE)


def test_every_variant_of_every_comparison_can_be_resolved_and_names_differ(pipe):
    for variants in (methods(28), *(make(28) for make in ABLATIONS.values())):
        assert drawable(pipe, variants) == (variants, [])
        assert len({variant.name for variant in variants}) == len(variants)


def test_what_the_recipe_says_of_the_sketch_decides_the_curve_and_changes_no_plan(pipe):
    said = sketch_said(pipe, HYBRID)
    assert said.curve == "hybrid, held"
    assert pipe.resolve(["a"], seed=1, **said.settings) == pipe.resolve(["a"], seed=1, **HYBRID.settings)
    for whole in (LARGE, QUICK):
        assert sketch_said(pipe, whole) is whole


def test_in_few_steps_what_no_longer_differs_is_drawn_once_and_what_does_not_fit_is_left_out(pipe):
    variants = methods(4)
    taken, refused = drawable(pipe, variants)
    assert len({variant.name for variant in variants}) == len(variants) == len(taken) + len(refused)
    assert all("do not fit into" in line for line in refused)


def test_a_comparison_of_which_nothing_can_be_drawn_says_why(pipe):
    with pytest.raises(HybridStitchError, match=r"hybrid: .*do not fit into 3 steps"):
        drawable(pipe, [HYBRID.but(steps=3, large_steps=3, hybrid_steps=3)])
