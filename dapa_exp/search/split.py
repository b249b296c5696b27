"""Rules that cut a configuration into n contiguous chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

Chunk = tuple[str, ...]
Split = Callable[[Sequence[str], int], list[Chunk]]


def balanced(items: Sequence[str], n: int) -> list[Chunk]:
    """Cut at the nearest multiples of len/n, so longer and shorter chunks alternate."""
    cuts = [len(items) * i // n for i in range(n + 1)]
    return [tuple(items[start:stop]) for start, stop in pairwise(cuts)]


def zeller(items: Sequence[str], n: int) -> list[Chunk]:
    """Cut as Zeller's reference implementation does: an n-th of the rest each time, longer chunks last."""
    chunks = []
    start = 0
    for left in range(n, 0, -1):
        stop = start + (len(items) - start) // left
        chunks.append(tuple(items[start:stop]))
        start = stop
    return chunks
