"""Batches of texts that have the same number of tokens. They need no padding, and a row means the same alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence


def equal_length_batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """The places of texts of the same length, in batches of at most `tokens` tokens, or of one text that has more."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        places[length].append(place)
    for length, alike in places.items():
        rows = max(1, tokens // length)
        for start in range(0, len(alike), rows):
            yield alike[start : start + rows]
