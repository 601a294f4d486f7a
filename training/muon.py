"""Muon: momentum whose steps are made orthogonal (https://kellerjordan.github.io/posts/muon)."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from training import workers

# Of the quintic iteration that drives all singular values towards 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """For matrices. Steps are scaled to the size of AdamW's (arXiv 2502.16982), so that the same weight decay fits.

    Matrices of equal shape are stepped together, which is what torch.optim.Muon does not do: for the 81 matrices of the
    large transformer it takes 150 ms a step on two cores, a quarter of the step itself; stacked, it is hardly seen.
    Several processes make each a part of them orthogonal.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        iterations: int = 5,
    ) -> None:
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            if matrix.ndim != 2:
                raise ValueError(f"Muon steps matrices, not a tensor of shape {tuple(matrix.shape)}")
            shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "iterations": iterations}
        super().__init__([{"params": stack} for stack in shapes.values()], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore
        """One step from the gradients that are there. No closure is called."""
        for group in self.param_groups:
            stack: list[Tensor] = group["params"]
            gradient = torch.stack([matrix.grad for matrix in stack])  # pyright: ignore
            state = self.state[stack[0]]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradient)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            turned = partial(orthogonal, iterations=group["iterations"])
            step = workers.divide(turned, gradient.lerp(state["momentum"], group["momentum"]))
            if group["weight_decay"]:
                torch._foreach_mul_(stack, 1 - group["lr"] * group["weight_decay"])
            size = 0.2 * max(stack[0].shape) ** 0.5
            torch._foreach_add_(stack, list(step.unbind(0)), alpha=-group["lr"] * size)


def orthogonal(matrices: Tensor, iterations: int) -> Tensor:
    """The nearest (half-)orthogonal matrix of each, roughly: singular values that are not tiny end between 0.7 and 1.2.
    [count, rows, columns], float32; the iteration itself runs in bfloat16."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return (x.transpose(1, 2) if tall else x).float()
