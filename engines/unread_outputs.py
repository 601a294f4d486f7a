"""Where TensorRT writes the outputs that nobody asked for: it writes every one, and reads some of them again.

Keys and values of most attentions share four places. What a graph reads an attention's key for is that attention's
result, which all later blocks need, so it is read before a later block writes its own. Within a block there may be two
attentions, numbered one after the other, whose keys and values are there at the same time: hence a place for the even
and one for the odd numbers, each for keys and for values.
"""

from __future__ import annotations

from collections.abc import Mapping


def unread_place(output: str) -> str:
    """The place of an output: "key.7" shares "key.odd" with the other odd keys, "velocity" has one of its own."""
    stem, _, index = output.partition(".")
    return f"{stem}.{'odd' if int(index) % 2 else 'even'}" if index else output


def unread_bytes(sizes: Mapping[str, int]) -> dict[str, int]:
    """The size of each place, in bytes, that outputs of these sizes share."""
    places: dict[str, int] = {}
    for output, size in sizes.items():
        place = unread_place(output)
        places[place] = max(size, places.get(place, 0))
    return places
