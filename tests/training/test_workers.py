"""Two real processes that train one model."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from training import workers
from training.muon import Muon


def _stepped() -> list[torch.Tensor]:
    """Five matrices of two shapes after two steps of Muon."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 24)] * 3 + [(24, 8)] * 2
    matrices = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    optimizer = Muon(matrices, lr=0.1)
    for _ in range(2):
        for matrix in matrices:
            matrix.grad = torch.randn(matrix.shape, generator=generator)
        optimizer.step()
    return [matrix.detach() for matrix in matrices]


def _work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    mean = [torch.full((2,), float(rank)), torch.full((3, 1), 2.0 + rank)]
    workers.average(mean)
    with workers.first_alone() as first:
        if first:
            (folder / "first").write_text("was here")
    found = {
        "agreed": workers.agree(7.0 + rank),
        "mean": mean,
        "first's file": (folder / "first").exists(),
        "muon": _stepped(),
        "one matrix for two": workers.divide(torch.neg, torch.ones(1, 2, 2)),
    }
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_and_share_their_work(tmp_path):
    alone = _stepped()
    mp.spawn(_work, (tmp_path,), nprocs=2)  # pyright: ignore
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["agreed"] == 7.0
        assert [values.flatten().tolist() for values in found["mean"]] == [[0.5] * 2, [2.5] * 3]
        assert found["first's file"]
        torch.testing.assert_close(found["muon"], alone, rtol=1e-2, atol=1e-3)  # bfloat16 inside
        assert torch.equal(found["one matrix for two"], -torch.ones(1, 2, 2))
