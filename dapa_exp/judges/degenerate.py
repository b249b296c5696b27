"""What is no language, and so no defence, whoever judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dapa_exp.judges.contract import Verdict

MIN_LETTER_SHARE = 0.3
LOOP_REPEATS = 5


def is_degenerate(text: str) -> bool:
    """Whether an answer is no language: empty, mostly not letters, or caught in a loop.

    Loop: its last words are one phrase of 1 to 8 words, five or more times over, filling at least
    half of the answer.
    """
    words = text.split()
    letters = sum(c.isalpha() for c in text)
    if not letters or letters < MIN_LETTER_SHARE * len(text.replace(" ", "")):
        return True
    return any(_loops(words, size) for size in range(1, 9))


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
