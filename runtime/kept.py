"""What one batch leaves for the next: pieces of workspaces, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

Piece = TypeVar("Piece")


class Key(NamedTuple):
    """lengths: what decides a piece's lengths. kind: which piece of them it is; the others hold on to `BASE`. masked:
    M, where it matters."""

    lengths: Any
    kind: str
    masked: int | None = None


BASE = "base"


@dataclass(frozen=True)
class _Kept:
    piece: Any
    bytes: int


class KeptPieces:
    """Pieces by key; for a new one those go that were used longest ago, until the bytes of all are within the bound.

    The pieces of the batch at hand never go, so that a batch which is larger than the bound by itself is drawn all the
    same, and nothing but it is kept.

    most: bytes, at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._pieces: OrderedDict[Key, _Kept] = OrderedDict()
        self._in_use: set[Key] = set()

    def begin(self) -> None:
        """A batch begins: the pieces of the one before may go."""
        self._in_use.clear()

    def get(self, key: Key, size: int, make: Callable[[], Piece]) -> Piece:
        """The piece of a key, made where it is not kept.

        Args:
            size: its bytes.
        """
        self._in_use.add(key)
        if key not in self._pieces:
            self._make_room(size)
            self._pieces[key] = _Kept(make(), size)
        self._pieces.move_to_end(key)
        return self._pieces[key].piece

    def drop(self, unwanted: Callable[[Key], bool]) -> None:
        """Let go of some pieces, and of those that hold on to them."""
        for key in [key for key in self._pieces if unwanted(key)]:
            self._remove(key)

    def clear(self) -> None:
        """Let go of all."""
        self._pieces.clear()
        self._in_use.clear()

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return sum(kept.bytes for kept in self._pieces.values())

    def __len__(self) -> int:
        return len(self._pieces)

    def __iter__(self) -> Iterator[Key]:
        """The keys, the one that was used longest ago first."""
        return iter(list(self._pieces))

    def _make_room(self, size: int) -> None:
        for key in self:
            if self.bytes + size <= self.most:
                return
            if key not in self._in_use:
                self._remove(key)

    def _remove(self, key: Key) -> None:
        gone = [key] if key.kind != BASE else [other for other in self._pieces if other.lengths == key.lengths]
        for each in gone:
            self._pieces.pop(each, None)
