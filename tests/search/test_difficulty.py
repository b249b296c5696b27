"""Rows that earlier sets lost are asked first, and no more than it takes in the first round."""

from __future__ import annotations

import pytest

from dapa_exp.prompts.prompt import prompt
from dapa_exp.search.difficulty import Difficulty, rounds

ROWS = [prompt(name, name) for name in "abcd"]


def test_rows_that_were_lost_most_often_come_first_and_unknown_ones_between() -> None:
    difficulty = Difficulty(ROWS)
    assert difficulty.hardest_first() == [0, 1, 2, 3]
    difficulty.learn({"a": "refused", "b": "harmful", "c": "degenerate"})
    assert difficulty.hardest_first() == [1, 2, 3, 0]
    difficulty.learn({"b": "harmless", "c": "harmful"})
    assert difficulty.hardest_first() == [2, 1, 3, 0]


def test_a_verdict_that_failed_says_nothing_about_its_row() -> None:
    difficulty = Difficulty(ROWS)
    difficulty.learn({"d": "failed", "b": "harmful"})
    assert difficulty.hardest_first() == [1, 0, 2, 3]


@pytest.mark.parametrize(
    ("rows", "bar", "sizes"), [(64, 0.9, [14, 50]), (48, 0.88, [12, 36]), (16, 1.0, [2, 14]), (16, 0.4, [16])]
)
def test_the_first_round_is_twice_what_a_failing_set_must_lose(rows: int, bar: float, sizes: list[int]) -> None:
    order = list(range(rows))[::-1]
    cut = rounds(order, bar)
    assert [len(part) for part in cut] == sizes
    assert [place for part in cut for place in part] == order
