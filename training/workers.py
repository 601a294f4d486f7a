"""Several processes that train one model on one machine, each on its own batches: started by `torchrun`, one a GPU,
or on a CPU that others use too, one a core (threads of one process wait for each other far more often)."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


def join(device: torch.device) -> None:
    """Meet the other processes, if torchrun started any."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def agree(value: float) -> float:
    """The first process's value, in all of them."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=_device())
    dist.broadcast(shared, 0)
    return float(shared)


def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes."""
    if dist.is_initialized():
        flat = _flatten_dense_tensors(tensors)
        dist.all_reduce(flat)
        flat /= count()
        torch._foreach_copy_(list(tensors), list(_unflatten_dense_tensors(flat, tensors)))


def divide(work: Callable[[Tensor], Tensor], stack: Tensor) -> Tensor:
    """`work(stack)` [count, ...], of equal shape, where each process does a part of the stack and gets all of it."""
    if not dist.is_initialized():
        return work(stack)
    done = torch.zeros_like(stack)
    mine = slice(rank(), None, count())
    done[mine] = work(stack[mine])
    dist.all_reduce(done)
    return done


def wait() -> None:
    """Until all processes have come here."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def first_alone() -> Iterator[bool]:
    """True in the first process; the others wait at the end until it is done."""
    yield rank() == 0
    wait()


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
