"""The loop that every stage trains in: a budget in pictures, moving averages, checkpoints, a progress bar.

A stage may be stopped at any moment, and the next call goes on: Ctrl-C and SIGTERM lose nothing, a kill at most
`save_seconds` of work. The batch of a step follows from the seed and the number of pictures seen alone, so a resumed
run sees what an unbroken one would have, and a slow machine ends with what a fast one does.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from training import workers
from training.muon import Muon

STOPS = (signal.SIGINT, signal.SIGTERM)
AVERAGE_EVERY = 4  # steps between two updates of the moving average


@dataclass(frozen=True)
class Budget:
    """`pictures` to see, `batch` of them a step and process."""

    pictures: int
    batch: int

    def __post_init__(self) -> None:
        if self.pictures < 1 or self.batch < 1:
            raise ValueError(f"a budget is of one picture or more, not {self.pictures} in batches of {self.batch}")


@dataclass(frozen=True)
class Optimization:
    """AdamW, and Muon for the matrices that a stage hands to it.

    The rates rise over `warmup` of the budget, stay, and from `hold` of the budget on fall to `final` times themselves
    in a straight line. `average` is the decay, a step, of the moving average of the weights, which is what a stage
    hands on.
    """

    rate: float
    muon_rate: float = 0.0
    warmup: float = 0.01
    hold: float = 0.5
    final: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.01
    clip: float = 1.0
    average: float = 0.999
    save_seconds: float = 120.0

    def factor_at(self, progress: float) -> float:
        """What both rates are multiplied by when `progress`, 0 to 1, of the budget is spent."""
        rise = min(1.0, (progress + 1e-4) / self.warmup)
        fall = 0.0 if progress <= self.hold else (progress - self.hold) / (1 - self.hold)
        return rise * (1 - (1 - self.final) * fall)


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 where a matrix product is, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16)


def train(
    folder: Path,
    module: nn.Module,
    loss_of: Callable[[int, float], Tensor],
    budget: Budget,
    optimization: Optimization,
    on_save: Callable[[], dict[str, float]] | None = None,
    matrices: Sequence[Tensor] = (),
) -> None:
    """Train `module` in place until the budget is spent, and leave the averaged weights in it.

    loss_of(draw, progress) draws a batch by its number and returns its loss; where several processes train together,
    each takes its own numbers and the gradients are averaged. Everything needed to go on lies in
    folder/checkpoint.pt, the course of the loss in folder/loss.jsonl. `on_save` is called with the averaged weights in
    the module whenever a checkpoint is written, and what it measured is logged. `matrices` are the weights that Muon
    steps instead of AdamW.
    """
    folder.mkdir(parents=True, exist_ok=True)
    course = Course(folder, module, optimization, on_save, matrices)
    tick, last_save, recent, compiled = time.monotonic(), time.monotonic(), [], False
    first = workers.rank() == 0
    with (
        asked_to_stop() as stopping,
        tqdm(
            desc=folder.name,
            initial=course.seen,
            total=budget.pictures,
            unit=" pictures",
            mininterval=10,
            disable=not first,
        ) as bar,
    ):
        while course.seen < budget.pictures:
            progress = course.seen / budget.pictures
            loss = loss_of(course.seen // budget.batch + workers.rank(), progress)
            course.learn(loss, progress)
            course.seen += budget.batch * workers.count()
            recent.append(loss.detach())
            now = time.monotonic()
            if compiled:  # the first step after a start also compiles: that is not training time
                course.elapsed += now - tick
            tick, compiled = now, True
            bar.update(budget.batch * workers.count())
            if course.step % 50 == 0:
                mean = float(torch.stack(recent).mean())
                recent.clear()
                bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
                if first:
                    course.log(loss=round(mean, 6))
            if first and now - last_save > optimization.save_seconds:
                course.save()
                last_save = tick = time.monotonic()
            if stopping():
                if first:
                    course.save()
                raise KeyboardInterrupt
    if first:
        course.save()
    course.hand_on()


class Course:
    """What a stage has learned until now, and all that is needed to go on: weights, averages, optimizers, counts.

    seen: pictures, of all processes. step: of the optimizers. elapsed: seconds of training.
    """

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        optimization: Optimization,
        on_save: Callable[[], dict[str, float]] | None,
        matrices: Sequence[Tensor],
    ) -> None:
        """Begin, or go on from the folder's checkpoint."""
        self._folder, self._module, self._optimization, self._on_save = folder, module, optimization, on_save
        self._checkpoint = folder / "checkpoint.pt"
        self._weights: list[Tensor] = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._averages = [weight.detach().clone() for weight in self._weights]
        self._optimizers = _optimizers(self._weights, matrices, optimization)
        self.seen, self.step, self.elapsed = 0, 0, 0.0
        if self._checkpoint.exists():
            self._restore()

    def learn(self, loss: Tensor, progress: float) -> None:
        """One step of the optimizers and, now and then, of the averages."""
        factor = self._optimization.factor_at(progress)
        for group in (group for optimizer in self._optimizers for group in optimizer.param_groups):
            group["lr"] = factor * group["full_rate"]
        self._module.zero_grad(set_to_none=True)
        loss.backward()
        workers.average([weight.grad for weight in self._weights if weight.grad is not None])
        nn.utils.clip_grad_norm_(self._weights, self._optimization.clip)
        for optimizer in self._optimizers:
            optimizer.step()
        if self.step % AVERAGE_EVERY == 0:
            decay = min(self._optimization.average**AVERAGE_EVERY, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self._averages, [weight.detach() for weight in self._weights], 1 - decay)
        self.step += 1

    def log(self, **figures: float) -> None:
        """Append a line to loss.jsonl."""
        record = {"pictures": self.seen, "step": self.step, "minutes": round(self.elapsed / 60, 3), **figures}
        with (self._folder / "loss.jsonl").open("a") as lines:
            lines.write(json.dumps(record) + "\n")

    def save(self) -> None:
        """Write the checkpoint whole, and log what `on_save` measures of the averaged weights."""
        state = {
            "module": self._module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "averages": self._averages,
            "seen": self.seen,
            "step": self.step,
            "elapsed": self.elapsed,
        }
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._checkpoint)
        if self._on_save is not None:
            with averaged(self._weights, self._averages):
                if measured := self._on_save():
                    self.log(**{name: round(value, 6) for name, value in measured.items()})

    def hand_on(self) -> None:
        """Leave the averaged weights in the module."""
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self._averages)

    def _restore(self) -> None:
        state = torch.load(self._checkpoint, map_location=self._weights[0].device, weights_only=True)
        self._module.load_state_dict(state["module"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self._averages = state["averages"]
        self.seen, self.step, self.elapsed = state["seen"], state["step"], state["elapsed"]


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come since: they wait for the end of a step, so that what is saved is whole."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in STOPS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def averaged(weights: list[Tensor], averages: list[Tensor]) -> Iterator[None]:
    """Swap the averaged weights in, and back out."""
    with torch.no_grad():
        kept = [weight.detach().clone() for weight in weights]
        torch._foreach_copy_(weights, averages)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(weights, kept)


def _optimizers(
    weights: Sequence[Tensor], matrices: Sequence[Tensor], optimization: Optimization
) -> list[torch.optim.Optimizer]:
    """Matrices and kernels decay; biases, norms and other vectors do not."""
    chosen = {id(matrix) for matrix in matrices}
    others = [weight for weight in weights if id(weight) not in chosen]
    groups = [
        {"params": [weight for weight in others if weight.ndim > 1], "weight_decay": optimization.decay},
        {"params": [weight for weight in others if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=optimization.rate, betas=optimization.betas, fused=True)
    ]
    if matrices:
        optimizers.append(Muon(matrices, lr=optimization.muon_rate, weight_decay=optimization.decay))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["full_rate"] = group["lr"]
    return optimizers
