"""Prompt -> text -> latents -> three stages -> decode -> picture, on one device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from hybridstitch.engines.backends import find_backend
from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.executors.released_engine import ReleasedEngine
from hybridstitch.engines.executors.scratch_arena import ScratchArena
from hybridstitch.engines.open import BuiltPair, open_pair
from hybridstitch.method.errors import HybridStitchError, OutOfMemory
from hybridstitch.method.numbers import whole_seed
from hybridstitch.method.settings import SamplingSettings
from hybridstitch.method.size import Size
from hybridstitch.method.tokens import crop_positions
from hybridstitch.models.scheduler import load_scheduler
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.pairs.schedule_file import read_schedule

from .drawing import Drawing, Parts
from .kept import KeptPieces
from .memory import largest_workspace
from .prompts import Tokenizers, encoder_length
from .request import Request, Requests, batch_shape
from .result import Failure, Picture, Result, StepProgress
from .specification import Shape
from .stream import OwnStream
from .text import TextEncoders
from .timing import Stopwatch
from .workspace import Workspace


class HybridStitch:
    """A pair of models, loaded and ready to draw. One thread at a time: its engines and buffers are its own.

    >>> pipe = HybridStitch.load("demo")
    >>> result = pipe("a large striped red star left of a small plain white circle on a navy background", seed=7)
    >>> result.images[0].save("star.png")

    recipe: the pair's recipe; `recipe.checkpoint("large")` is the folder of a checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path | None,
        backend: str,
        *,
        device: torch.device | str | None = None,
        threads: int | None = None,
        low_memory: bool | None = None,
    ) -> None:
        built = open_pair(
            folder,
            pair=recipe.name,
            backend=backend,
            device=device,
            threads=threads,
            argument=recipe.argument,
            split=recipe.profiles.split,
        )
        self.recipe, self.folder, self.backend = recipe, built.folder, backend
        self.device, self.geometry = built.device, built.geometry
        self.low_memory = recipe.defaults.low_memory if low_memory is None else low_memory
        self.engines: dict[str, Engine] = {name: self._open(built, name) for name in built.manifests}
        large = self.engines["large"]
        encoders = [engine for name, engine in self.engines.items() if name.startswith("text_encoder")]
        tokenizers = Tokenizers(built.assets, [encoder_length(engine.manifest) for engine in encoders])
        scheduler = load_scheduler(built.assets / "scheduler")
        self.requests = Requests(recipe, built.manifests, self.geometry, tokenizers, scheduler, built.folder)
        scratch = ScratchArena(self.device)  # a pipeline runs one engine at a time, on one stream
        self._text = TextEncoders(
            encoders,
            tokenizers,
            scratch=scratch,
            width=self.geometry.text_width,
            zero_tokens=large.manifest.zero_text_tokens,
            dtype=large.dtype,
        )
        self._sessions = {name: self.engines[name].session(scratch) for name in ("large", "small", "vae_decoder")}
        self._positions = {name: built.positions(name).to(self.engines[name].dtype) for name in ("large", "small")}
        self._split = any(len(plans) > 1 for plans in built.plans.values())
        self._kept = KeptPieces(largest_workspace(built.manifests, recipe))
        self._stream = OwnStream(self.device)
        self._busy = False

    @classmethod
    def load(
        cls,
        pair: str | Path | Recipe = "demo",
        *,
        engines: str | Path | None = None,
        backend: str = "onnxruntime",
        device: torch.device | str | None = None,
        threads: int | None = None,
        schedule: str | Path | None = None,
        low_memory: bool | None = None,
    ) -> HybridStitch:
        """Load a pair's engines.

        Args:
            pair: a recipe's name, the path of its TOML file, or the recipe itself.
            engines: the folder that they were built in; by default build/<pair>/<backend>. Plans can run code:
                name only folders that you trust.
            backend: onnxruntime, tensorrt, tensorrt_rtx or torch.
            device: such as cuda:1; by default the CPU, or the current GPU for a backend that needs one.
            threads: CPU threads of an engine; by default the machine's cores.
            schedule: a TOML file whose method and settings are used unless a call says otherwise, as `tune` writes it.
            low_memory: hold text encoders and decoder only while they run; each batch loads them again, which takes
                time. By default what the recipe says.

        Raises:
            HybridStitchError: unknown pair or backend, a schedule that does not fit, engines that are not built, were
                built for another machine, version or pair, or are damaged; the message says what to type.
        """
        backend = find_backend(backend).name
        if not isinstance(pair, Recipe):
            recipe = Recipe.load(pair, schedule)
        else:
            recipe = pair if schedule is None else pair.with_schedule(read_schedule(Path(str(schedule))))
        folder = Path(str(engines)) if engines is not None else None
        return cls(recipe, folder, backend, device=device, threads=threads, low_memory=low_memory)

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | None = None,
        seed: int = 0,
        size: Size | str | None = None,
        method: str | None = None,
        on_step: Callable[[StepProgress], None] | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Result:
        """Draw one picture for each prompt.

        Args:
            prompt: one or several; each picture is the same alone or among others.
            seed: of the first prompt's noise; prompt k has seed + k. The noise is drawn on the CPU, so that a seed
                means the same on every device.
            size: WxH in pixels; one of the recipe's.
            method, settings: see `make_parameters`; what is not given is the recipe's.
            on_step: called after each step; what it raises ends the run.

        Raises:
            HybridStitchError: a bad argument, or an engine that gave NaN, infinity or only zeros.
        """
        prompts = [prompt] if isinstance(prompt, str | bytes) or not isinstance(prompt, Iterable) else list(prompt)
        result = self.run(
            self.resolve(prompts, negative_prompt=negative_prompt, seed=seed, size=size, method=method, **settings),
            on_step=on_step,
        )
        for failure in result.failures:
            raise HybridStitchError(failure.error)
        return result

    def resolve(self, prompts: Sequence[str], *, seed: int = 0, **requested: Any) -> list[Request]:
        """Requests, one for each prompt, which have seeds `seed`, `seed` + 1, ...; refused before anything runs.

        Args:
            requested: see `Requests.resolve`.

        Raises:
            HybridStitchError: no prompt, or what `Requests.resolve` refuses.
        """
        if not prompts:
            raise HybridStitchError("there is no prompt: say what to draw")
        first = whole_seed(seed, len(prompts))
        return [self.requests.resolve(text, seed=first + index, **requested) for index, text in enumerate(prompts)]

    def run(
        self,
        requests: Sequence[Request],
        on_step: Callable[[StepProgress], None] | None = None,
        *,
        parts: Parts | None = None,
    ) -> Result:
        """Draw requests, those together that share a batch; one that goes wrong is a `Failure` among pictures.

        Args:
            parts: what the drawings are made with; only comparisons need others.

        Raises:
            HybridStitchError: not enough memory, or requests in a number that no engine takes.
        """
        watch, batches = Stopwatch(self.device), self.requests.batches(requests)
        outcomes: dict[int, Picture | Failure] = {}
        for number, places in enumerate(batches):
            with self.drawing([requests[place] for place in places], watch, parts=parts) as drawing:
                for step in drawing:
                    if on_step is not None:
                        steps = drawing.batch[0].parameters.schedule.steps
                        on_step(StepProgress.of(step, steps, number, len(batches)))
                outcomes |= zip(places, drawing.finish(), strict=True)
            del drawing  # its workspace must not outlive its place among those that are kept
        return Result([outcomes[place] for place in range(len(requests))], watch.finish())

    @contextmanager
    def drawing(
        self,
        batch: Sequence[Request],
        watch: Stopwatch | None = None,
        *,
        parts: Parts | None = None,
    ) -> Iterator[Drawing]:
        """A batch, to be driven step by step: one at a time, and in one thread.

        >>> batch = pipe.resolve(["a large red star on a navy background"])
        >>> with pipe.drawing(batch) as drawing:
        ...     for step in drawing:
        ...         pass  # show a preview, or stop here to cancel
        ...     outcomes = drawing.finish()

        On a GPU the body runs on the pipeline's own stream, which is idle when it ends, however it ends.

        Args:
            batch: requests of one key, in a number that the engines take (`Requests.batches`).
            parts: as in `run`.

        Raises:
            HybridStitchError: another drawing is under way, not enough memory, or an engine that failed.
        """
        if self._busy:
            raise HybridStitchError("this pipeline is drawing already: it draws one batch at a time")
        self._busy = True
        try:
            with torch.inference_mode(), self._stream.run():
                yield self._begin(batch, Stopwatch(self.device) if watch is None else watch, parts or Parts())
        except (OutOfMemory, MemoryError, torch.OutOfMemoryError) as error:
            reason = f" ({error})" if isinstance(error, OutOfMemory) else ""
            raise OutOfMemory(
                f"not enough memory on {self.device} for {len(batch)} pictures of {batch[0].size}: draw fewer at "
                f"once or smaller ones; hybridstitch-trt inspect says what a run takes{reason}"
            ) from None
        finally:
            self._busy = False
            for engine in self._released():  # where the batch was broken off
                engine.release()

    def on_its_stream(self) -> AbstractContextManager[None]:
        """Whatever is enqueued within runs on the stream that drawings run on, which is idle at the end. On a CPU there
        is none. Measurements need it: TensorRT waits for the device at each call on the default stream."""
        return self._stream.run()

    def close(self) -> None:
        """Give back the engines' memory; nothing can be drawn afterwards."""
        self._kept.clear()
        for engine in self.engines.values():
            engine.close()

    def __enter__(self) -> HybridStitch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, batch: Sequence[Request], watch: Stopwatch, parts: Parts) -> Drawing:
        levels = self.requests.levels(batch[0]).to(self.device)
        workspace = self._workspace(batch_shape(batch))
        decoder = self.engines["vae_decoder"]
        if not isinstance(decoder, ReleasedEngine):
            return Drawing(batch, workspace, self._text, levels, self.geometry, watch, parts)
        decoder.release()  # the workspace may have opened it to bind its call
        for engine in self._released():
            if engine is not decoder:
                engine.opened()
        watch.lap("load")
        drawing = Drawing(batch, workspace, self._text, levels, self.geometry, watch, parts, decoder)
        for engine in self._released():
            engine.release()
        return drawing

    def _released(self) -> list[ReleasedEngine]:
        """The engines that are held only while they run."""
        return [engine for engine in self.engines.values() if isinstance(engine, ReleasedEngine)]

    def _open(self, built: BuiltPair, component: str) -> Engine:
        """An engine; in low memory all but the transformers are opened when a call needs them."""
        if not self.low_memory or component in ("large", "small"):
            return built.engine(component)
        return ReleasedEngine(built.manifests[component], partial(built.engine, component), device=built.device)

    def _workspace(self, shape: Shape) -> Workspace:
        """That of the batch, of what is kept of earlier ones and of new pieces.

        Where each size has plans of its own, the pieces of other sizes go: they keep their plans open. Where memory
        does not suffice, all goes and a second attempt is made.
        """
        if self._split:
            self._kept.drop(lambda key: key.lengths.size != shape.size)
        try:
            return self._assemble(shape)
        except (OutOfMemory, MemoryError, torch.OutOfMemoryError):
            if not self._kept:
                raise
        # Out here nothing holds the tensors of the failed attempt any more.
        self._kept.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._assemble(shape)

    def _assemble(self, shape: Shape) -> Workspace:
        grid = self.geometry.grid(shape.size)

        def positions() -> dict[str, Tensor]:
            return {name: crop_positions(table, *grid).to(self.device) for name, table in self._positions.items()}

        return Workspace(self._sessions, positions, shape, self._kept)
