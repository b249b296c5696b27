"""Earlier answers to the same prompts, as guesses of what a hybrid will say. A wrong guess costs time, no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

Answers = Mapping[int, list[int]]
"""The tokens of answers, by the place of their prompt in its batch."""


class Drafts:
    """What every earlier hybrid answered to a batch."""

    def __init__(self) -> None:
        self._answers: list[tuple[frozenset[str], Answers]] = []

    def add(self, units: frozenset[str], answers: Answers) -> None:
        """Remember the answers of the hybrid of these units."""
        self._answers.append((units, answers))

    def nearest(self, units: frozenset[str]) -> list[Answers]:
        """All answers, those of hybrids that differ in the fewest units first, the latest first among equals."""
        latest_first = reversed(self._answers)
        return [answers for _, answers in sorted(latest_first, key=lambda entry: len(entry[0] ^ units))]


def continuation(drafts: Sequence[Answers], place: int, said: list[int]) -> list[int]:
    """How the first answer goes on that begins with what was said; empty where none does.

    First of the answers at this place, then of those to other prompts: refusals are much alike.
    """
    own = (answers[place] for answers in drafts if place in answers)
    others = (draft for answers in drafts for draft in answers.values()) if said else ()
    for draft in chain(own, others):
        if len(draft) > len(said) and draft[: len(said)] == said:
            return draft[len(said) :]
    return []
