"""What no user can ask for, to compare with: masks by chance or by knowing how it will end, and masked tokens alone."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.variants import LARGE, Variant
from hybridstitch.method.masks import Choose, hardest, token_mean
from hybridstitch.method.tokens import patchify
from hybridstitch.runtime.drawing import Parts
from hybridstitch.runtime.engine_models import Around, EngineModels
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Failure, Picture
from hybridstitch.runtime.workspace import Workspace

RANDOM, ORACLE, ALONE = "random", "oracle", "alone"


class AloneModels(EngineModels):
    """The large model sees of a masked step's other tokens nothing, instead of their keys and values."""

    def __init__(self, workspace: Workspace, around: Around = nullcontext) -> None:
        super().__init__(workspace, around)
        self._masked = workspace.masked_alone()


def aided(pipe: HybridStitch, variant: Variant, case: PromptCase) -> Choose:
    """What chooses the mask of a variant.

    random: by chance, from the case's seed. oracle: the tokens that end farthest from the large model's own picture
    where the small model draws all that is left, which takes two more pictures to know.

    Raises:
        ValueError: another aid.
    """
    if variant.aid in (None, ALONE):
        return hardest
    if variant.aid == RANDOM:
        generator = torch.Generator().manual_seed(case.seed)
        return lambda scores, count: hardest(torch.rand(scores.shape, generator=generator).to(scores), count)
    if variant.aid != ORACLE:
        raise ValueError(f"no such aid: {variant.aid}")
    settings = {"steps": variant.settings.get("steps"), "guidance": variant.settings.get("guidance")}
    (parameters,) = (request.parameters for request in pipe.resolve([case.prompt], seed=case.seed, **variant.settings))
    without = {
        "method": "srdiffusion",
        "large_steps": parameters.schedule.large_until,
        "residual": parameters.residual or "off",
    }
    ends = [
        patchify(draw(pipe, Variant("", {**settings, **how}), case)[0].latents[None], pipe.geometry.patch_size)
        for how in (LARGE.settings, without)
    ]
    ranking = token_mean(ends[0] - ends[1])
    return lambda scores, count: hardest(ranking.to(scores), count)


def draw(pipe: HybridStitch, variant: Variant, case: PromptCase) -> tuple[Picture, float]:
    """A variant's picture of a case, and its seconds.

    Raises:
        HybridStitchError: a setting that does not fit, or an engine that failed.
        RuntimeError: the picture went wrong.
    """
    parts = Parts(
        choose=aided(pipe, variant, case) if variant.aid else hardest,
        models=AloneModels if variant.aid == ALONE else EngineModels,
    )
    result = pipe.run(pipe.resolve([case.prompt], seed=case.seed, **variant.settings), parts=parts)
    (outcome,) = result.outcomes
    if isinstance(outcome, Failure):
        raise RuntimeError(f"{variant.name}, {case.prompt!r}: {outcome.error}")
    return outcome, result.timing.total
