"""What one call of each engine takes, and what a masked call takes beside a full one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import BoundCall, Session
from hybridstitch.engines.full_lengths import full_lengths
from hybridstitch.engines.out_of_memory import running
from hybridstitch.engines.profiles import resolve
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.guidance import halves
from hybridstitch.method.progress import OnProgress, Progress, silent
from hybridstitch.method.size import Size
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.prompts import text_tokens

LEAST = 0.005
"""Seconds that a measurement takes at least: a shorter call runs several times in a row."""


@dataclass(frozen=True)
class CallTime:
    """Seconds of an engine's call, one number a repetition. lengths: of its dynamic dimensions, such as M and F.

    full: seconds of the engine's full call, which took turns with it; none of the full call itself.
    """

    name: str
    lengths: Mapping[str, int]
    seconds: tuple[float, ...]
    full: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)

    @property
    def per_second(self) -> float:
        return 1 / self.median

    @property
    def share(self) -> tuple[float, tuple[float, float]]:
        """Its seconds as a share of the full call's in the same repetitions: median, and quartiles."""
        low, middle, high = np.percentile(np.array(self.seconds) / np.array(self.full), [25, 50, 75])
        return float(middle), (float(low), float(high))


def call_lengths(pipe: HybridStitch, size: Size, guidance: float) -> dict[str, dict[str, int]]:
    """The lengths of each engine's call in a full run of one picture."""
    text = text_tokens({name: engine.manifest for name, engine in pipe.engines.items()})
    lengths_of = {}
    for name, engine in pipe.engines.items():
        lengths = full_lengths(engine.manifest.inputs, pipe.geometry, size, 1)
        lengths["B"] = 1 if name == "vae_decoder" else halves(guidance)
        lengths_of[name] = lengths | ({"T": text} if "T" in lengths else {})
    return lengths_of


def masked_tokens(manifest: Manifest, full: Mapping[str, int], bucket: int) -> list[int]:
    """Every M in whole buckets below all tokens that a profile of the large engine holds, ascending."""
    tokens = full["M"]
    return [
        count
        for count in range(bucket, tokens, bucket)
        if any(profile.admits({**full, "M": count, "F": tokens - count}) for profile in manifest.profiles)
    ]


def spread(values: Sequence[int], most: int, always: Iterable[int] = ()) -> list[int]:
    """About `most` of the values, evenly from first to last, and those that must be there."""
    places = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int) if values else []
    return sorted({values[place] for place in places} | (set(always) & set(values)))


def measure_calls(
    pipe: HybridStitch,
    calls: Mapping[str, tuple[str, Mapping[str, int]]],
    repetitions: int,
    progress: OnProgress = silent,
) -> dict[str, CallTime]:
    """Seconds of calls on inputs of noise, on the pipeline's own stream.

    An engine's first call is the control of its others: it stays bound, and takes turns with each of them in turn. So
    no more than two calls of one engine are there at a time, and a machine that slows down slows both.

    Args:
        calls: by name the engine and the lengths of its dynamic dimensions.

    Raises:
        HybridStitchError: lengths that no profile holds.
        OutOfMemory: not enough memory for two calls of an engine.
    """
    names = {engine: [name for name in calls if calls[name][0] == engine] for engine, _ in calls.values()}
    times: dict[str, CallTime] = {}
    with torch.inference_mode(), pipe.on_its_stream():
        for engine, (first, *others) in names.items():
            session = pipe.engines[engine].session()
            control = _warm(pipe, session, first, calls[first][1], repetitions, progress)
            (alone,) = _in_turns(pipe, [control], repetitions)
            times[first] = CallTime(first, calls[first][1], alone)
            for name in others:
                pair = [control, _warm(pipe, session, name, calls[name][1], repetitions, progress)]
                beside, own = _in_turns(pipe, pair, repetitions)
                del pair  # before the next call is bound
                times[name] = CallTime(name, calls[name][1], own, beside)
    return {name: times[name] for name in calls}


def _warm(
    pipe: HybridStitch,
    session: Session,
    name: str,
    lengths: Mapping[str, int],
    repetitions: int,
    progress: OnProgress,
) -> tuple[BoundCall, int]:
    """A call that has run twice, and how often it runs in a row."""
    progress(Progress(f"{name} call", 0, repetitions))
    call = bind_noise(session, lengths)
    _seconds(call, 1, pipe.device)
    return call, max(1, math.ceil(LEAST / _seconds(call, 1, pipe.device)))


def _in_turns(pipe: HybridStitch, calls: Sequence[tuple[BoundCall, int]], repetitions: int) -> list[tuple[float, ...]]:
    """Seconds of each call, one number a repetition."""
    seconds = [[_seconds(call, turns, pipe.device) for call, turns in calls] for _ in range(repetitions)]
    return list(zip(*seconds, strict=True))


def bind_noise(session: Session, lengths: Mapping[str, int]) -> BoundCall:
    """A call on noise. Of a transformer only the velocity is computed, as in every step that keeps no keys.

    Raises:
        HybridStitchError, OutOfMemory: as `Session.bind`.
    """
    with running(session.engine.manifest.component, session.engine.device):
        return _bind_noise(session, lengths)


def _bind_noise(session: Session, lengths: Mapping[str, int]) -> BoundCall:
    engine = session.engine
    generator = torch.Generator().manual_seed(0)

    def noise(dtype: str, shape: tuple[int, ...]) -> Tensor:
        if not getattr(torch, dtype).is_floating_point:
            return torch.zeros(shape, dtype=getattr(torch, dtype), device=engine.device)
        return torch.randn(shape, generator=generator).to(engine.device, getattr(torch, dtype))

    manifest = engine.manifest
    inputs = {name: noise(spec.dtype, resolve(spec.dims, lengths)) for name, spec in manifest.inputs.items()}
    outputs = None
    if "velocity" in manifest.outputs:
        velocity = manifest.outputs["velocity"]
        outputs = {"velocity": noise(velocity.dtype, resolve(velocity.dims, lengths))}
    return session.bind(inputs, outputs)


def _seconds(call: BoundCall, turns: int, device: torch.device) -> float:
    """Of one run, the mean over some in a row; waits for a GPU before and after."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(turns):
        call.run()
    _wait(device)
    return (time.perf_counter() - start) / turns


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
