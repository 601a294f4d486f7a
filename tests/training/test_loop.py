"""The loop that every stage trains in."""

import json

import pytest
import torch
from torch import nn

from training.loop import Budget, Optimization, train

FAST = Optimization(rate=0.01, warmup=1, average=0.9)


def _loss_of(module: nn.Module):
    def loss_of(step: int, progress: float) -> torch.Tensor:
        batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return ((module(batch) - batch.sum(1, keepdim=True)) ** 2).mean()

    return loss_of


def _trained(folder, *budgets: int) -> tuple[nn.Linear, int]:
    """A module trained to each number of steps in turn, each time from what lies in the folder."""
    seen = 0
    module = nn.Linear(4, 1)
    for steps in budgets:
        torch.manual_seed(0)
        module = nn.Linear(4, 1)
        loss_of = _loss_of(module)

        def counted(step: int, progress: float, loss_of=loss_of) -> torch.Tensor:
            nonlocal seen
            seen += 1
            return loss_of(step, progress)

        train(folder, module, counted, Budget(steps=steps), FAST)
    return module, seen


def test_the_loss_falls_and_its_course_is_logged(tmp_path):
    _trained(tmp_path, 200)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert len(losses) == 4
    assert losses[-1] < 0.5 * losses[0]


def test_a_stage_that_is_done_does_nothing_more(tmp_path):
    first, _ = _trained(tmp_path, 60)
    again, seen = _trained(tmp_path, 60)
    assert seen == 0
    assert torch.equal(first.weight, again.weight)


def test_a_stopped_stage_goes_on_where_its_checkpoint_was_written(tmp_path):
    _, seen = _trained(tmp_path, 30, 80)
    assert seen == 80


def test_a_killed_stage_gives_what_an_unbroken_one_gives(tmp_path):
    """Killed at step 30 of 60 just after a checkpoint; then resumed."""
    torch.manual_seed(0)
    module = nn.Linear(4, 1)
    loss_of = _loss_of(module)

    def killed(step: int, progress: float) -> torch.Tensor:
        if step == 30:
            raise KeyboardInterrupt
        return loss_of(step, progress)

    eager = Optimization(rate=0.01, warmup=1, average=0.9, save_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", module, killed, Budget(steps=60), eager)
    resumed, _ = _trained(tmp_path / "killed", 60)
    unbroken, _ = _trained(tmp_path / "unbroken", 60)
    torch.testing.assert_close(resumed.weight, unbroken.weight)


def test_a_budget_needs_a_limit():
    with pytest.raises(ValueError, match="a budget needs minutes, steps or both"):
        Budget()


def test_a_budget_is_spent_by_whichever_limit_comes_first():
    assert Budget(minutes=1, steps=100).progress(elapsed=30, step=10) == 0.5
    assert Budget(minutes=1, steps=100).progress(elapsed=6, step=90) == 0.9
    assert Budget(steps=100).progress(elapsed=1e9, step=100) == 1
