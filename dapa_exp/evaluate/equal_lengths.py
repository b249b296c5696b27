"""Batches of texts with the same number of tokens. They need no padding, so a row's result depends on no other row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence


def equal_length_batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield the indices of texts of equal length, in batches of at most `tokens` tokens, but at least one text."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        places[length].append(place)
    for length, alike in places.items():
        rows = max(1, tokens // length)
        for start in range(0, len(alike), rows):
            yield alike[start : start + rows]
