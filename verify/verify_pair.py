"""A built pair against its checkpoints: every engine by itself, then each stage as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.out_of_memory import is_out_of_memory
from hybridstitch.engines.store.manifest import Manifest, our_version
from hybridstitch.method.guidance import is_guided
from hybridstitch.method.masks import Mask
from hybridstitch.method.numbers import whole_seed
from hybridstitch.method.progress import OnProgress, Progress, silent
from hybridstitch.method.sigmas import noise_levels
from hybridstitch.method.tokens import patchify
from hybridstitch.models.scheduler import load_scheduler
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.prompts import Tokenizers, encoder_length
from hybridstitch.runtime.text import TextEncoders

from .built import Built, find_built
from .call_cases import CallCase, cases_for
from .compare import LEAST_SAME_MASK, RUN_BOUNDS, precision
from .engine import CaseReport, engine_bounds, enough_memory, one_line, verify_engine
from .failures import FailureFolder, Save, forget, require_place
from .inputs import Material
from .report import ProfileReport, Report
from .stages import (
    SCHEDULES,
    Setting,
    Side,
    StageReport,
    StageRun,
    compare_stage,
    failed_stage,
    run_stage,
)

PROMPTS = (
    "",
    "a large striped red star left of a small plain white circle on a navy background",
    "a cat",
    "a photograph of an old lighthouse on a rocky coast at dusk, waves breaking below it, warm light in its windows, "
    "gulls overhead, film grain, 35 mm",
    "a sign that says HELLO",
)
"""From no words to more than an encoder reads; the first is the negative prompt of the stage runs."""

TRANSFORMERS = ("large", "small")


def verify_pair(
    pair: str | Path = "demo",
    *,
    engines: str | Path | None = None,
    backend: str = "onnxruntime",
    components: Sequence[str] = (),
    quick: bool = False,
    threads: int | None = None,
    seed: int = 0,
    save_failures: str | Path | None = None,
    progress: OnProgress = silent,
) -> Report:
    """Compare built engines with the checkpoints that they came from.

    Engine and reference are on one device at the same time, one component after another; the stages need both
    transformers, the reference's first and then the engines.

    Args:
        engines: their folder; by default build/<pair>/<backend>.
        components: some of those built; by default all, and then the stages too.
        quick: fewer lengths (see `cases_for`).
        threads: CPU threads of ONNX Runtime and of the reference.
        seed: of all noise.
        save_failures: a folder for the calls that are off, made when there is one (see `FailureFolder`).
        progress: told what comes next, and how many calls and stages are done.

    Raises:
        HybridStitchError: an unknown pair, backend or component, engines that are not built or cannot run here, a
            checkpoint that is gone, a folder for failures that cannot be written, or not enough memory. Engines that
            are wrong are in the report, not raised.
    """
    start = time.perf_counter()
    seed = whole_seed(seed)
    if save_failures is not None:
        require_place(Path(save_failures))
    built, names = find_built(Recipe.load(pair), engines, backend, components, threads)
    cases = {plan.name: cases_for(plan, quick=quick) for name in names for plan in built.pair.plans[name]}
    whole = not components
    kept = FailureFolder(Path(save_failures), built.pair.store) if save_failures is not None else None
    total, done = sum(map(len, cases.values())) + (2 * len(SCHEDULES) if whole else 0), 0

    def advance(what: str) -> None:
        nonlocal done
        progress(Progress(what, done, total))
        done += 1

    profiles, material = _verify_engines(built, names, cases, seed, advance, kept.save if kept else forget)
    stages = _verify_stages(built, material, advance) if whole else []
    progress(Progress("done", total, total))
    return Report(
        pair=built.recipe.name,
        backend=backend,
        device=str(built.pair.device),
        folder=built.pair.folder,
        version=our_version(),
        quick=quick,
        seed=seed,
        rebuild=built.pair.store.rebuild,
        profiles=tuple(profiles),
        stages=tuple(stages),
        unsaved=kept.problem if kept else None,
        seconds=time.perf_counter() - start,
    )


def _verify_engines(
    built: Built,
    names: Sequence[str],
    cases: Mapping[str, list[CallCase]],
    seed: int,
    advance: Callable[[str], None],
    save: Save,
) -> tuple[list[ProfileReport], Material]:
    """SamplingParameters by plan: of a component with several, one is open at a time."""
    encoders = {name: built.reference(name) for name in built.pair.manifests if name.startswith("text_encoder")}
    material = _material(built, encoders, seed)
    reports: list[ProfileReport] = []
    for name in names:
        if name not in encoders:
            _close(encoders)
        with closing(encoders.get(name) or built.reference(name)) as reference:
            for plan in built.pair.plans[name]:

                def say(case: CallCase, name: str = name) -> None:
                    advance(f"{name} {case.profile}")

                with closing(built.open_plan(plan)) as engine:
                    case_reports = verify_engine(engine, reference, cases[plan.name], material, say, save)
                reports += _by_profile(plan, case_reports)
    _close(encoders)
    return reports, material


def _material(built: Built, encoders: Mapping[str, Engine], seed: int) -> Material:
    """Text from the reference's encoders, so that a wrong encoder is that encoder's failure alone."""
    lengths = [encoder_length(engine.manifest) for engine in encoders.values()]
    tokenizers = Tokenizers(built.pair.assets, lengths)
    text = TextEncoders(
        list(encoders.values()),
        tokenizers,
        width=built.pair.geometry.text_width,
        zero_tokens=built.pair.manifests["large"].zero_text_tokens,
        dtype=getattr(torch, built.pair.manifests["large"].dtype),
    )
    with torch.inference_mode(), enough_memory("text_encoder", built.pair.device):
        embeddings, pooled = text.encode(PROMPTS)
    scheduler = load_scheduler(built.pair.assets / "scheduler")
    tokens = built.pair.geometry.tokens(built.recipe.defaults.size)
    levels = noise_levels(scheduler, built.recipe.defaults.steps, tokens, built.pair.device)
    return Material(
        family=built.family,
        device=built.pair.device,
        channels=built.pair.geometry.latent_channels,
        seed=seed,
        text=embeddings,
        pooled=pooled,
        input_ids={name: tokenizers.ids(index, PROMPTS).to(built.pair.device) for index, name in enumerate(encoders)},
        positions={name: built.checkpoint_positions(name) for name in TRANSFORMERS},
        sigmas=levels[:, 0],
        timesteps=levels[:, -1],
    )


def _by_profile(manifest: Manifest, reports: Sequence[CaseReport]) -> list[ProfileReport]:
    names = dict.fromkeys(report.case.profile for report in reports)
    return [
        ProfileReport(
            component=manifest.component,
            profile=name,
            dtype=manifest.dtype,
            bounds=engine_bounds(manifest),
            cases=tuple(report for report in reports if report.case.profile == name),
        )
        for name in names
    ]


def _verify_stages(built: Built, material: Material, advance: Callable[[str], None]) -> list[StageReport]:
    """The reference's runs first, then the engines': both pairs need not fit on the device at once."""
    setting = _setting(built, material)
    kind = precision(built.pair.manifests["large"].dtype, built.pair.store.backend)
    limits = RUN_BOUNDS[kind], LEAST_SAME_MASK[kind]
    references: dict[str, StageRun | str] = {}
    with _side({name: built.reference(name) for name in TRANSFORMERS}, material.positions) as side:
        for stage in SCHEDULES:
            advance(f"{stage} stage, reference")
            references[stage] = _try_stage(side, stage, setting, ())
    reports = []
    stored = {name: built.pair.positions(name) for name in TRANSFORMERS}
    with _side({name: built.engine(name) for name in TRANSFORMERS}, stored) as side:
        for stage, expected in references.items():
            advance(f"{stage} stage")
            if isinstance(expected, str):
                reports.append(failed_stage(stage, f"cannot be judged: the reference's {expected}", *limits))
                continue
            run = _try_stage(side, stage, setting, expected.masks)
            if isinstance(run, str):
                reports.append(failed_stage(stage, f"it cannot run: {run}", *limits))
            else:
                reports.append(compare_stage(stage, run, expected, *limits))
    return reports


def _try_stage(side: Side, stage: str, setting: Setting, follow: Sequence[Mask]) -> StageRun | str:
    """A run, or in one line what stopped it."""
    try:
        return run_stage(side, stage, setting, follow=follow)
    except Exception as error:  # a backend's errors share no base class, and each is what this is here to find
        if is_out_of_memory(error):
            raise
        return one_line(error)


@contextmanager
def _side(engines: dict[str, Engine], positions: Mapping[str, Tensor]) -> Iterator[Side]:
    tables = {name: positions[name].to(engine.dtype) for name, engine in engines.items()}
    try:
        with enough_memory("the stages", engines["large"].device):
            yield Side(engines["large"], engines["small"], tables)
    finally:
        _close(engines)


def _setting(built: Built, material: Material) -> Setting:
    """The recipe's default size and settings, its smallest batch, each image with its own prompt."""
    recipe, geometry = built.recipe, built.pair.geometry
    size = recipe.defaults.size if recipe.defaults.size in recipe.profiles.sizes else recipe.profiles.sizes[0]
    grid, images = geometry.grid(size), min(recipe.profiles.batch_sizes)
    patch = geometry.patch_size
    shape = (images, geometry.latent_channels, grid[0] * patch, grid[1] * patch)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(material.seed))
    scheduler = load_scheduler(built.pair.assets / "scheduler")
    rows = [1 + image % (len(PROMPTS) - 1) for image in range(images)]
    rows = [0] * images + rows if is_guided(recipe.defaults.guidance) else rows
    parameters = make_parameters(recipe, "hybrid")
    return Setting(
        geometry=geometry,
        size=size,
        noise=patchify(noise, patch).to(built.pair.device),
        levels={
            stage: noise_levels(scheduler, schedule.steps, grid[0] * grid[1], built.pair.device)
            for stage, schedule in SCHEDULES.items()
        },
        text=material.text[rows],
        pooled=material.pooled[rows],
        guidance=recipe.defaults.guidance,
        mask_ratio=parameters.mask_ratio,
        residual=parameters.residual,
        token_bucket=recipe.profiles.token_bucket,
    )


def _close(engines: Mapping[str, Engine]) -> None:
    for engine in engines.values():
        engine.close()
