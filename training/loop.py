"""The loop that every stage trains in: a budget in minutes or steps, moving averages, checkpoints, a progress bar.

A stage may be killed at any moment: at most `save_seconds` of work are lost, and the next call goes on. The batch of a
step follows from the seed and the step's number alone, so a resumed run sees what an unbroken one would have.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from training import workers


@dataclass(frozen=True)
class Budget:
    """How long a stage trains: whichever of the two is given and reached first."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ValueError("a budget needs minutes, steps or both")

    def progress(self, elapsed: float, step: int) -> float:
        """Share of the budget that is spent, 0 to 1; `elapsed` in seconds."""
        by_time = 0.0 if self.minutes is None else elapsed / (60 * self.minutes)
        by_step = 0.0 if self.steps is None else step / self.steps
        return min(1.0, max(by_time, by_step))


@dataclass(frozen=True)
class Optimization:
    """AdamW with a warm-up in steps, then a cosine to `final` times the rate; `average` is the decay of the moving
    average of the weights, which is what a stage hands on."""

    rate: float
    warmup: int = 200
    final: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.01
    clip: float = 1.0
    average: float = 0.999
    save_seconds: float = 120.0

    def rate_at(self, progress: float, step: int) -> float:
        cosine = self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.rate * cosine * min(1.0, (step + 1) / self.warmup)


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 where a matrix product is, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16)


def train(
    folder: Path,
    module: nn.Module,
    loss_of: Callable[[int, float], Tensor],
    budget: Budget,
    optimization: Optimization,
    on_save: Callable[[nn.Module], None] | None = None,
) -> None:
    """Train `module` in place until the budget is spent, and leave the averaged weights in it.

    loss_of(draw, progress) draws a batch by its number and returns its loss; where several processes train together,
    each takes its own numbers and the gradients are averaged. Everything needed to go on lies in
    folder/checkpoint.pt, the course of the loss in folder/loss.jsonl. `on_save` sees the averaged weights whenever
    a checkpoint is written, e.g. to draw samples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    weights: list[Tensor] = [parameter for parameter in module.parameters() if parameter.requires_grad]
    averages = [weight.detach().clone() for weight in weights]
    fused = all(weight.is_floating_point() for weight in weights)
    optimizer = torch.optim.AdamW(
        _decay_groups(module, optimization.decay), lr=0.0, betas=optimization.betas, fused=fused
    )
    step, elapsed = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=weights[0].device, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        averages = state["averages"]
        step, elapsed = state["step"], state["elapsed"]

    def save() -> None:
        state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "averages": averages}
        partial = checkpoint.with_suffix(".partial")
        torch.save({**state, "step": step, "elapsed": elapsed}, partial)
        os.replace(partial, checkpoint)
        if on_save is not None:
            with averaged(weights, averages):
                on_save(module)

    tick, last_save, recent, compiled = time.monotonic(), time.monotonic(), [], False
    first = workers.rank() == 0
    with tqdm(desc=folder.name, initial=step, total=budget.steps, mininterval=10, disable=not first) as bar:
        while (progress := workers.agree(budget.progress(elapsed, step))) < 1:
            for group in optimizer.param_groups:
                group["lr"] = optimization.rate_at(progress, step)
            loss = loss_of(step * workers.count() + workers.rank(), progress)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            workers.average([weight.grad for weight in weights if weight.grad is not None])
            nn.utils.clip_grad_norm_(weights, optimization.clip)
            optimizer.step()
            decay = min(optimization.average, (1 + step) / (10 + step))
            torch._foreach_lerp_(averages, [weight.detach() for weight in weights], 1 - decay)
            step += 1
            recent.append(loss.detach())
            now = time.monotonic()
            if compiled:  # the first step after a start also compiles: that is not training time
                elapsed += now - tick
            tick, compiled = now, True
            bar.update()
            if step % 50 == 0:
                mean = float(torch.stack(recent).mean())
                recent.clear()
                bar.set_postfix(loss=f"{mean:.4f}", spent=f"{100 * progress:.0f}%", refresh=False)
                record = {"step": step, "minutes": round(elapsed / 60, 3), "loss": round(mean, 6)}
                if first:
                    with (folder / "loss.jsonl").open("a") as log:
                        log.write(json.dumps(record) + "\n")
            if first and now - last_save > optimization.save_seconds:
                save()
                last_save = tick = time.monotonic()
    if first:
        save()
    with torch.no_grad():
        torch._foreach_copy_(weights, averages)


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


def _decay_groups(module: nn.Module, decay: float) -> list[dict]:
    """Matrices and kernels shrink; biases, norms and other vectors do not."""
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [weight for weight in weights if weight.ndim > 1]
    vectors = [weight for weight in weights if weight.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
