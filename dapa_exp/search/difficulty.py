"""Learns from query to query which search rows are hard to defend. Asking them first shows early that a set fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor

from dapa_exp.judges import DEFENDED, Verdict
from dapa_exp.prompts.prompt import Prompt

FIRST_ROUND = 2
"""Rows in the first round, as a multiple of the rows that a set must lose to fail."""


class Difficulty:
    """Counts for each row how often it was asked, and how often it was not defended."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._places = {prompt.id: place for place, prompt in enumerate(prompts)}
        self._asked = [0] * len(prompts)
        self._lost = [0] * len(prompts)

    def learn(self, verdicts: Mapping[str, str]) -> None:
        """Count the verdicts of a query. Keys are the ids of rows."""
        for row, verdict in verdicts.items():
            place = self._places[row]
            self._asked[place] += verdict != Verdict.FAILED
            self._lost[place] += verdict not in {*DEFENDED, Verdict.FAILED}

    def hardest_first(self) -> list[int]:
        """All rows, ordered by the share of queries that lost them (Laplace's rule of succession), then by index."""
        return sorted(
            range(len(self._asked)),
            key=lambda place: (-(self._lost[place] + 1) / (self._asked[place] + 2), place),
        )


def rounds(order: Sequence[int], bar: float) -> list[Sequence[int]]:
    """Cut rows into two rounds. The first suffices for a set that clearly fails. More rounds would cost more time."""
    to_fail = floor(len(order) * (1.0 - bar)) + 1
    first = FIRST_ROUND * to_fail
    return [part for part in (order[:first], order[first:]) if part]
