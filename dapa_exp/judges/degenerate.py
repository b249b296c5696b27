"""What is no language, and so no defence, whoever judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dapa_exp.judges.contract import Verdict

MIN_LETTER_SHARE = 0.3
LOOP_REPEATS = 5
LOOP_LETTERS = 20
"""Fewer letters may repeat without a loop: "Nooooo"."""


def is_degenerate(text: str) -> bool:
    """Whether an answer is no language: empty, mostly not letters, or caught in a loop.

    Loop: its last words are one phrase of 1 to 8 words, or its last 20 letters or more one string of any length,
    five or more times over, filling at least half of the answer.
    """
    words = text.split()
    letters = sum(c.isalpha() for c in text)
    if not letters or letters < MIN_LETTER_SHARE * len(text.replace(" ", "")):
        return True
    return any(_loops(words, size) for size in range(1, 9)) or _loops_by_letter("".join(words))


def judged_where_language(
    prompts: Sequence[str], completions: Sequence[str], ask: Callable[[list[tuple[str, str]]], list[Verdict]]
) -> list[Verdict]:
    """The verdicts of a judge with a model, which is asked only about completions that are language."""
    sound = [not is_degenerate(completion) for completion in completions]
    rows = [(prompt, text) for prompt, text, asked in zip(prompts, completions, sound, strict=True) if asked]
    answers = iter(ask(rows))
    return [next(answers) if asked else Verdict.DEGENERATE for asked in sound]


def _loops(words: list[str], size: int) -> bool:
    phrase = words[-size:]
    repeats = 0
    while (
        repeats * size < len(words) and words[len(words) - (repeats + 1) * size : len(words) - repeats * size] == phrase
    ):
        repeats += 1
    return repeats >= LOOP_REPEATS and repeats * size * 2 >= len(words)


def _loops_by_letter(text: str) -> bool:
    """Whether the text's end repeats one string; the last repeat may be cut off.

    From the end backwards, `border[i]` is the length of the longest proper beginning of the first i + 1 characters that
    ends them too (Knuth, Morris, Pratt), so that they repeat what is i + 1 - border[i] long.
    """
    backwards = text[::-1]
    border = [0] * len(backwards)
    for i in range(1, len(backwards)):
        k = border[i - 1]
        while k and backwards[i] != backwards[k]:
            k = border[k - 1]
        border[i] = k + (backwards[i] == backwards[k])
        length = i + 1
        if length >= max(LOOP_LETTERS, len(text) / 2) and length >= LOOP_REPEATS * (length - border[i]):
            return True
    return False
