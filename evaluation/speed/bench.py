"""Every method beside the large model: seconds, closeness and overhead, and what the engines' calls take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from hybridstitch.evaluation.control import find_controls, nearest_control
from hybridstitch.evaluation.cost.operations import count_operations
from hybridstitch.evaluation.cost.program_cost import describe_transformer
from hybridstitch.evaluation.quality.closeness import psnr
from hybridstitch.evaluation.variants import (
    HYBRID,
    LARGE,
    SMALL,
    SRDIFFUSION,
    T_STITCH,
    Variant,
    hybrid_at,
    in_steps,
    large_at,
    paper_at,
)
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import masked_count
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.progress import OnProgress, silent, within
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Result

from .bench_report import BenchReport, MaskedCall, Row
from .calls import CallTime, call_lengths, masked_tokens, measure_calls, spread
from .diffusers_pipeline import against_diffusers
from .machine import circumstances
from .timing import Drawn, Measured, interleave

RATIOS = (0.15, 0.3, 0.5)
PAPER_RATIO = 0.3
FEWER = 12 / 28
"""Steps of the rows with fewer of them, as a share of all."""
PILOT_CASES, MASKED_CALLS, CALL_TURNS = 3, 8, 30


@dataclass(frozen=True)
class BenchOptions:
    """What is measured.

    repetitions: of all cases. guidance, steps: of all methods; None: the recipe's. fewer_steps: of the rows with fewer
    of them; None: 12 of 28. ratios: the shares of the tokens that hybrid is measured with. threads: CPU threads that
    diffusers gets, those of the engines; None: torch's own choice. diffusers: whether it is measured.
    """

    repetitions: int = 3
    guidance: float | None = None
    steps: int | None = None
    fewer_steps: int | None = None
    ratios: tuple[float, ...] = RATIOS
    threads: int | None = None
    diffusers: bool = True


@dataclass(frozen=True)
class _Field:
    """The variants that are measured, large first, each with its parameters. twins: those that share another's."""

    variants: list[Variant]
    parameters: dict[str, SamplingParameters]
    twins: dict[str, str]


def bench(
    pipe: HybridStitch,
    cases: Sequence[Drawn],
    options: BenchOptions,
    command: Sequence[str],
    progress: OnProgress = silent,
) -> BenchReport:
    """Measure all of it in turns; what is refused is refused before anything is drawn.

    Args:
        command: what was typed, for the report.

    Raises:
        HybridStitchError: settings out of range, a ratio that no profile holds, or fewer steps that are not fewer.
    """
    field = contestants(pipe, cases, options)
    large = field.variants[0]
    steps, guidance = field.parameters["large"].schedule.steps, field.parameters["large"].guidance
    pilots = [variant for variant in field.variants if variant.settings["method"] != "large"]
    steps_of_control = find_controls(pipe, large, pilots, cases[:PILOT_CASES], steps, within(progress, "control"))
    _add_controls(field, pipe, cases, set(steps_of_control.values()) - {steps})

    rows = measure_rows(pipe, field, cases, options.repetitions, progress)
    masked, engines, notes = measure_engines(pipe, guidance, options.ratios, progress)
    size = pipe.recipe.defaults.size
    rivals = None
    if options.diffusers:
        with _torch_threads(options.threads):
            rivals = against_diffusers(
                pipe, cases, options.repetitions, size=size, steps=steps, guidance=guidance, progress=progress
            )
    about = {
        "pair": pipe.recipe.name,
        "backend": pipe.backend,
        "device": pipe.device.type,
        "size": str(size),
        "steps": steps,
        "guidance": guidance,
        "repetitions": options.repetitions,
        "cases": [{"prompt": case.prompt, "seed": case.seed} for case in cases],
    }
    return BenchReport(
        about=about,
        circumstances=circumstances(command, pipe.device),
        rows=rows,
        recipe_row=HYBRID.name,
        masked=masked,
        engines=engines,
        diffusers=rivals,
        notes=notes,
    )


def contestants(pipe: HybridStitch, cases: Sequence[Drawn], options: BenchOptions) -> _Field:
    """The methods, in all steps and in fewer, without their controls.

    Raises:
        HybridStitchError: as `bench`.
    """
    asked = {"guidance": options.guidance, "steps": options.steps}
    shared = {name: value for name, value in asked.items() if value is not None}
    every = options.steps or pipe.recipe.defaults.steps
    methods = [LARGE, SMALL, SRDIFFUSION, T_STITCH, HYBRID, *map(hybrid_at, options.ratios)]
    field = _Field([], {}, {})
    for variant in (*methods, paper_at(PAPER_RATIO, every)):
        try:
            _enter(field, variant.but(**shared), pipe, cases)
        except HybridStitchError as error:
            raise HybridStitchError(f"{variant.name}: {error}") from None
    steps = field.parameters["large"].schedule.steps
    fewer = options.fewer_steps or max(1, round(FEWER * steps))
    if fewer >= steps and options.fewer_steps is not None:
        raise HybridStitchError(f"fewer steps must be fewer than {steps}, not {fewer}")
    if fewer < steps:
        _enter(field, large_at(fewer).but(guidance=options.guidance), pipe, cases)
        for variant in methods[1:]:
            if field.parameters[variant.name].schedule.steps != fewer:  # a recipe's method may have as many of its own
                _enter(field, in_steps(variant.but(**shared), fewer), pipe, cases)
        _enter(field, in_steps(paper_at(PAPER_RATIO, fewer).but(guidance=options.guidance), fewer), pipe, cases)
    return field


def measure_rows(
    pipe: HybridStitch, field: _Field, cases: Sequence[Drawn], repetitions: int, progress: OnProgress = silent
) -> list[Row]:
    """Draw the field in turns; a row for each variant and each twin."""
    references: dict[Drawn, Any] = {}
    closeness: dict[str, list[float]] = {variant.name: [] for variant in field.variants}
    overheads: dict[str, list[float]] = {variant.name: [] for variant in field.variants}

    def look(variant: Variant, case: Drawn, repetition: int, result: Result) -> None:
        overheads[variant.name].append(result.timing.overhead)
        if variant.name == "large":
            references.setdefault(case, result.images[0])
        elif repetition == 0:  # the same pictures come again
            closeness[variant.name].append(psnr(result.images[0], references[case]))

    measured = interleave(pipe, field.variants, cases, repetitions, look, progress)
    rows = {
        name: _row(name, field.parameters[name], measured, tuple(overheads[name]), tuple(closeness[name]))
        for name in measured
    }
    order = [*field.parameters]
    for twin, name in field.twins.items():
        rows[twin] = _twin(rows[name], twin)
    return [rows[name] for name in order]


def measure_engines(
    pipe: HybridStitch, guidance: float, ratios: Sequence[float], progress: OnProgress = silent
) -> tuple[list[MaskedCall], list[CallTime], list[str]]:
    """What masked calls take, what each engine's call takes, and what could not be told."""
    full = call_lengths(pipe, pipe.recipe.defaults.size, guidance)
    tokens, bucket = full["large"]["M"], pipe.recipe.profiles.token_bucket
    manifest = pipe.engines["large"].manifest
    always = [masked_count(tokens, ratio, bucket) for ratio in ratios]
    counts = spread(masked_tokens(manifest, full["large"], bucket), MASKED_CALLS, always)
    calls: dict[str, tuple[str, Mapping[str, int]]] = {name: (name, lengths) for name, lengths in full.items()}
    names = {count: f"masked {count / tokens:.0%}" for count in counts}
    calls |= {names[count]: ("large", {**full["large"], "M": count, "F": tokens - count}) for count in counts}
    times = measure_calls(pipe, calls, CALL_TURNS, progress)
    notes = []
    try:
        operations = _operations(pipe)
    except HybridStitchError as error:
        operations = None
        notes.append(f"operations are not counted: {error}")
    masked = []
    for count in counts:
        call = times[names[count]]
        share, quartiles = call.share
        counted = None if operations is None else operations(call.lengths) / operations(full["large"])
        masked.append(MaskedCall(count, count / tokens, call, share, quartiles, counted))
    shown = [*full, *(names[count] for count in dict.fromkeys(always) if count in names)]
    return masked, [times[name] for name in shown], notes


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    """So that diffusers has as many CPU threads as the engines."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _operations(pipe: HybridStitch) -> Any:
    """Counts a call of the large engine by its lengths; reads the checkpoint's config."""
    transformer = describe_transformer(pipe.recipe, "large", pipe.engines["large"].manifest)
    return lambda lengths: count_operations(transformer, lengths)


def _enter(field: _Field, variant: Variant, pipe: HybridStitch, cases: Sequence[Drawn]) -> None:
    """Add a variant; one whose parameters are there already is its twin."""
    parameters = pipe.resolve([case.prompt for case in cases], **variant.settings)[0].parameters
    first = next(
        (name for name, entered in field.parameters.items() if entered == parameters and name not in field.twins), None
    )
    field.parameters[variant.name] = parameters
    if first is None:
        field.variants.append(variant)
    elif first != variant.name:
        field.twins[variant.name] = first


def _add_controls(field: _Field, pipe: HybridStitch, cases: Sequence[Drawn], steps: set[int]) -> None:
    """Rows of the large model alone, in the steps that were found."""
    guidance = field.variants[0].settings.get("guidance")
    for count in sorted(steps, reverse=True):
        control = large_at(count).but(guidance=guidance)
        if control.name not in field.parameters:
            _enter(field, control, pipe, cases)


def _row(
    name: str,
    parameters: SamplingParameters,
    measured: Mapping[str, Measured],
    overheads: tuple[float, ...],
    closeness: tuple[float, ...],
) -> Row:
    own, large = measured[name], measured["large"]
    controls = {variant: taken.median for variant, taken in measured.items() if variant.partition("@")[0] == "large"}
    return Row(
        name=name,
        parameters=parameters.as_dict(),
        measured=own,
        speedup=large.median / own.median,
        speedups=tuple(whole / part for whole, part in zip(large.seconds, own.seconds, strict=True)),
        overheads=overheads,
        closeness=closeness,
        control=None if name in controls else nearest_control(own.median, controls),
    )


def _twin(row: Row, name: str) -> Row:
    return replace(row, name=name, same_as=row.name)
