"""The loop that every stage trains in."""

import json
import os
import signal

import pytest
import torch
from torch import nn

from training.loop import Budget, Optimization, train

FAST = Optimization(rate=0.01, warmup=0.01, average=0.9)
BATCH = 8


def _loss_of(module: nn.Module):
    def loss_of(draw: int, progress: float) -> torch.Tensor:
        batch = torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(draw))
        return ((module(batch) - batch.sum(1, keepdim=True)) ** 2).mean()

    return loss_of


def _trained(folder, *budgets: int, optimization: Optimization = FAST) -> tuple[nn.Linear, list[int]]:
    """A module trained to each number of pictures in turn, each time from what lies in the folder; and the draws."""
    draws: list[int] = []
    module = nn.Linear(4, 1)
    for pictures in budgets:
        torch.manual_seed(0)
        module = nn.Linear(4, 1)
        loss_of = _loss_of(module)

        def counted(draw: int, progress: float, loss_of=loss_of) -> torch.Tensor:
            draws.append(draw)
            return loss_of(draw, progress)

        matrices = [module.weight] if optimization.muon_rate else []
        train(folder, module, counted, Budget(pictures, BATCH), optimization, matrices=matrices)
    return module, draws


def test_the_loss_falls_and_its_course_is_logged(tmp_path):
    _trained(tmp_path, 200 * BATCH)
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["pictures"] for line in lines] == [50 * BATCH, 100 * BATCH, 150 * BATCH, 200 * BATCH]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]


def test_muon_trains_the_matrices_that_it_is_given(tmp_path):
    optimization = Optimization(rate=0.01, muon_rate=0.1, warmup=0.01, average=0.9)
    module, _ = _trained(tmp_path, 200 * BATCH, optimization=optimization)
    torch.testing.assert_close(module.weight, torch.ones(1, 4), atol=0.1, rtol=0)


def test_a_stage_that_is_done_does_nothing_more(tmp_path):
    first, _ = _trained(tmp_path, 60 * BATCH)
    again, draws = _trained(tmp_path, 60 * BATCH)
    assert draws == []
    assert torch.equal(first.weight, again.weight)


def test_a_stopped_stage_goes_on_where_its_checkpoint_was_written(tmp_path):
    _, draws = _trained(tmp_path, 30 * BATCH, 80 * BATCH)
    assert draws == list(range(80))


@pytest.mark.parametrize("muon_rate", [0.0, 0.05])
def test_a_killed_stage_gives_what_an_unbroken_one_gives(tmp_path, muon_rate):
    """Killed at step 30 of 60 just after a checkpoint; then resumed."""
    optimization = Optimization(rate=0.01, muon_rate=muon_rate, warmup=0.01, average=0.9, save_seconds=0.0)
    torch.manual_seed(0)
    module = nn.Linear(4, 1)
    loss_of = _loss_of(module)

    def killed(draw: int, progress: float) -> torch.Tensor:
        if draw == 30:
            raise KeyboardInterrupt
        return loss_of(draw, progress)

    matrices = [module.weight] if muon_rate else []
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", module, killed, Budget(60 * BATCH, BATCH), optimization, matrices=matrices)
    resumed, _ = _trained(tmp_path / "killed", 60 * BATCH, optimization=optimization)
    unbroken, _ = _trained(tmp_path / "unbroken", 60 * BATCH, optimization=optimization)
    torch.testing.assert_close(resumed.weight, unbroken.weight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_is_asked_to_stop_loses_nothing(tmp_path, number):
    torch.manual_seed(0)
    module = nn.Linear(4, 1)
    loss_of = _loss_of(module)

    def asked(draw: int, progress: float) -> torch.Tensor:
        if draw == 30:
            os.kill(os.getpid(), number)
        return loss_of(draw, progress)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", module, asked, Budget(60 * BATCH, BATCH), FAST)
    assert signal.getsignal(number) is before
    resumed, draws = _trained(tmp_path / "stopped", 60 * BATCH)
    assert draws == list(range(31, 60))
    unbroken, _ = _trained(tmp_path / "unbroken", 60 * BATCH)
    torch.testing.assert_close(resumed.weight, unbroken.weight)


def test_what_is_measured_at_a_checkpoint_is_measured_on_averaged_weights_and_logged(tmp_path):
    torch.manual_seed(0)
    module = nn.Linear(4, 1)
    seen: list[torch.Tensor] = []

    def measured() -> dict[str, float]:
        seen.append(module.weight.detach().clone())
        return {"validation": 0.5}

    train(tmp_path, module, _loss_of(module), Budget(40 * BATCH, BATCH), FAST, measured)
    assert torch.equal(seen[-1], module.weight)  # what a stage hands on
    assert json.loads((tmp_path / "loss.jsonl").read_text().splitlines()[-1])["validation"] == 0.5


def test_rates_rise_stay_and_fall_to_their_end():
    law = Optimization(rate=1.0, warmup=0.1, hold=0.5, final=0.2)
    factors = [law.factor_at(progress) for progress in (0.0, 0.05, 0.1, 0.5, 0.75, 1.0)]
    assert factors == pytest.approx([0.001, 0.501, 1.0, 1.0, 0.6, 0.2])


def test_a_budget_needs_pictures():
    with pytest.raises(ValueError, match="a budget is of one picture or more, not 0 in batches of 8"):
        Budget(0, 8)
