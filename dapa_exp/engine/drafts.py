"""Earlier hybrids' answers, which serve as guesses of a hybrid's answer. A wrong guess costs time only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

Answers = Mapping[int, list[int]]
"""The tokens of answers, by the index of their prompt in its batch."""


class Drafts:
    """The answers of all earlier hybrids to a batch."""

    def __init__(self) -> None:
        self._answers: list[tuple[frozenset[str], Answers]] = []

    def add(self, units: frozenset[str], answers: Answers) -> None:
        """Remember the answers of the hybrid of these units."""
        self._answers.append((units, answers))

    def nearest(self, units: frozenset[str]) -> list[Answers]:
        """All answers. Hybrids that differ in fewer units come first; of equally near ones, the latest."""
        latest_first = reversed(self._answers)
        return [answers for _, answers in sorted(latest_first, key=lambda entry: len(entry[0] ^ units))]


def continuation(drafts: Sequence[Answers], place: int, said: list[int]) -> list[int]:
    """The rest of the first answer that begins with the tokens in `said`; empty if there is none.

    Answers to the prompt at this place come first, then answers to other prompts: refusals are much alike.
    """
    own = (answers[place] for answers in drafts if place in answers)
    others = (draft for answers in drafts for draft in answers.values()) if said else ()
    for draft in chain(own, others):
        if len(draft) > len(said) and draft[: len(said)] == said:
            return draft[len(said) :]
    return []
