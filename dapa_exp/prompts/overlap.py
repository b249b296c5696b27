"""Finds equal and similar prompts, within one set and between search rows and report rows."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from dapa_exp.prompts.prompt import Message, Prompt


def distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts without duplicates; the first of equal prompts stays.

    Two prompts are equal if all their turns are, apart from case and spacing.
    """
    return list({_turns(prompt.messages, _spaced): prompt for prompt in reversed(prompts)}.values())[::-1]


def unseen(prompts: Sequence[Prompt], search: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that are not search prompts. Case, spacing, punctuation and system prompts do not count."""
    seen = {_asked(prompt) for prompt in search}
    return [prompt for prompt in prompts if _asked(prompt) not in seen]


def unlike(prompts: Sequence[Prompt], search: Sequence[Prompt], threshold: float) -> list[Prompt]:
    """The prompts that resemble no search prompt.

    Two prompts resemble each other if the Jaccard index of their shingles is at least `threshold`. The shingles of a
    prompt are its words and its pairs of neighbouring words.
    """
    shingles = [_shingles(prompt) for prompt in search]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, found in enumerate(shingles):
        for shingle in found:
            holders[shingle].append(place)

    def resembles(prompt: Prompt) -> bool:
        own = _shingles(prompt)
        shared = Counter(place for shingle in own for place in holders.get(shingle, ()))
        return any(count >= threshold * (len(own) + len(shingles[place]) - count) for place, count in shared.items())

    return [prompt for prompt in prompts if not resembles(prompt)]


def _asked(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """The words of each turn, without the system prompt."""
    return _turns([turn for turn in prompt.messages if turn.role != "system"], words_of)


def _turns(turns: Iterable[Message], normal: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
    return tuple((turn.role, normal(turn.content)) for turn in turns)


def _shingles(prompt: Prompt) -> frozenset[tuple[str, ...]]:
    words = words_of(prompt.text).split()
    return frozenset([*((word,) for word in words), *pairwise(words)])


def _spaced(text: str) -> str:
    """A text in lower case, with single spaces and NFC characters."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def words_of(text: str) -> str:
    """The words of a text in lower case, without punctuation. A text without words is returned as `_spaced` has it."""
    spaced = _spaced(text)
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in spaced).split()) or spaced
