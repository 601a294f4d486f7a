"""The optimizer of the transformers' matrices."""

import pytest
import torch
from torch import nn

from training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 24, 72), (2, 16, 48), (2, 48, 16)])
def test_steps_are_nearly_orthogonal(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices, 5))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def test_stacked_matrices_step_as_they_would_alone():
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(8, 8, generator=generator), torch.randn(8, 8, generator=generator)]
    gradients = [torch.randn(8, 8, generator=generator) for _ in starts]
    together = [nn.Parameter(start.clone()) for start in starts]
    alone = [nn.Parameter(start.clone()) for start in starts]
    for matrices in (together, [alone[0]], [alone[1]]):
        optimizer = Muon(matrices, lr=0.1, weight_decay=0.01)
        for _ in range(3):
            for matrix in matrices:
                matrix.grad = gradients[[*map(id, together), *map(id, alone)].index(id(matrix)) % 2]
            optimizer.step()
    for first, second in zip(together, alone, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-3)  # bfloat16 inside


def test_it_steps_as_torch_does():
    """Against torch.optim.Muon with the same scaling, which takes matrices one by one."""
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(24, 48, generator=generator) for _ in range(2))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [
        Muon([ours], lr=0.1, weight_decay=0.01, momentum=0.95),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(3):
        for matrix, optimizer in zip((ours, theirs), optimizers, strict=True):
            matrix.grad = gradient
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"Muon steps matrices, not a tensor of shape \(4,\)"):
        Muon([nn.Parameter(torch.zeros(4))], lr=0.1)
