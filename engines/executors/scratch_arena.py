"""Scratch memory that several sessions share, because they never run at once."""

from __future__ import annotations

import weakref
from typing import Protocol

import torch
from torch import Tensor


class ScratchUser(Protocol):
    """A session whose calls keep intermediate results in an arena."""

    def place(self) -> None:
        """Point the calls to the arena's memory, which has moved."""
        ...


class ScratchArena:
    """Memory for intermediate results, of the size that the largest session needs. It never shrinks while one uses it.

    Sessions with the same arena run on one stream: what one of them left there is gone once another runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._users: weakref.WeakSet[ScratchUser] = weakref.WeakSet()
        self.memory = self._empty(0)

    def join(self, user: ScratchUser) -> None:
        self._users.add(user)

    def leave(self, user: ScratchUser) -> None:
        """The last one that leaves gives the memory back."""
        self._users.discard(user)
        if not self._users:
            self.memory = self._empty(0)

    def grown(self, size: int) -> Tensor:
        """Memory of at least `size` bytes, for `take`: that which is there, or new memory.

        Raises:
            torch.OutOfMemoryError: there is not so much; the arena is as it was.
        """
        return self.memory if self.memory.numel() >= size else self._empty(size)

    def take(self, memory: Tensor) -> None:
        """Use this memory from now on."""
        if memory is not self.memory:
            self.memory = memory
            for user in self._users:
                user.place()

    def _empty(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)
