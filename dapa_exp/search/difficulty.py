"""Which search rows are hard to defend, learned from query to query, so that a set that fails shows it soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor

from dapa_exp.judges import DEFENDED, Verdict
from dapa_exp.prompts.prompt import Prompt

FIRST_ROUND = 2
"""How many rows the first round asks for each that a set has to lose to fail."""


class Difficulty:
    """Counts, for each row, how often it was asked and not defended."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._places = {prompt.id: place for place, prompt in enumerate(prompts)}
        self._asked = [0] * len(prompts)
        self._lost = [0] * len(prompts)

    def learn(self, verdicts: Mapping[str, str]) -> None:
        """Take in the verdicts of a query, by row."""
        for row, verdict in verdicts.items():
            place = self._places[row]
            self._asked[place] += verdict != Verdict.FAILED
            self._lost[place] += verdict not in {*DEFENDED, Verdict.FAILED}

    def hardest_first(self) -> list[int]:
        """All rows, by the share of queries that lost them (Laplace's rule of succession), else by place."""
        return sorted(
            range(len(self._asked)),
            key=lambda place: (-(self._lost[place] + 1) / (self._asked[place] + 2), place),
        )


def rounds(order: Sequence[int], bar: float) -> list[Sequence[int]]:
    """Cut rows in two: those that will do for a set that clearly fails, and all others, since rounds cost time too."""
    to_fail = floor(len(order) * (1.0 - bar)) + 1
    first = FIRST_ROUND * to_fail
    return [part for part in (order[:first], order[first:]) if part]
