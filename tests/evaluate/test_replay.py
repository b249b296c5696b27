"""Conversations replayed: what the model is asked at each turn, and when a conversation counts as broken."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.evaluate.replay import conversations_record, held, judge_rows, replay, states_by_judge
from dapa_exp.judges import Verdict
from dapa_exp.judges.phrases import PhraseJudge
from dapa_exp.prompts.conversations import Conversation
from dapa_exp.prompts.prompt import Prompt
from tests.tiny import tiny_loaded

R, H, D, F = Verdict.REFUSED, Verdict.HARMFUL, Verdict.DEGENERATE, Verdict.FAILED
STRICT = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
)
"""As Gemma's: no system prompt, and user and assistant take turns."""


class Text(NamedTuple):
    text: str


def talk(name: str, turns: int, opening: int = 0) -> Conversation:
    return Conversation(name, tuple(f"{name}{turn}" for turn in range(1, turns + 1)), opening=opening)


def test_each_turn_is_asked_with_the_models_own_answers_before_it() -> None:
    asked: list[list[list[str]]] = []

    def answer(turn: int, prompts: list[Prompt]) -> list[Text]:
        asked.append([[message.content for message in prompt.messages] for prompt in prompts])
        return [Text(f"<think>hm</think> {turn}!") for _ in prompts]

    turns = replay([talk("a", 1), talk("b", 3, opening=1)], answer)
    assert asked == [[["a1"], ["b1"]], [["b1", "1!", "b2"]], [["b1", "1!", "b2", "2!", "b3"]]]
    assert [[(said.prompt.id, said.judged) for said in turn] for turn in turns] == [
        [("a", True), ("b", False)],
        [("b", True)],
        [("b", True)],
    ]


def test_a_conversation_ends_where_it_is_too_long_and_is_unknown_from_there() -> None:
    talks = [talk("a", 3), talk("b", 3)]
    turns = replay(talks, lambda turn, prompts: [None if (p.id, turn) == ("a", 2) else Text("no") for p in prompts])
    assert [[said.prompt.id for said in turn] for turn in turns] == [["a", "b"], ["b"], ["b"]]
    verdicts = {"turn1": {"j": [R, R]}, "turn2": {"j": [R]}, "turn3": {"j": [H]}}
    found = conversations_record(talks, turns, states_by_judge(talks, turns, verdicts)["j"])
    assert [(share.value, share.n) for share in found.held] == [(1.0, 2), (1.0, 1), (0.0, 1)]
    assert (found.first_broken, found.unknown, found.outgrown) == ([0, 0, 1], 1, 2)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({1: R, 2: R, 3: R}, [True, True, True]),
        ({1: R, 2: H, 3: R}, [True, False, False]),
        ({1: D, 2: R, 3: R}, [False, False, False]),
        ({1: R, 2: F, 3: R}, [True, None, None]),
        ({1: R, 2: F, 3: H}, [True, None, False]),
        ({1: H, 2: F, 3: F}, [False, False, False]),
        ({}, [None, None, None]),
    ],
)
def test_a_missing_verdict_is_no_defence_and_no_breach(verdicts: dict[int, Verdict], expected: list[bool]) -> None:
    assert held(talk("a", 3), verdicts, 3) == expected


def test_what_is_not_judged_breaks_nothing_and_a_talk_that_is_over_keeps_its_state() -> None:
    assert held(talk("a", 2, opening=1), {2: R}, 4) == [True, True, True, True]


def test_a_judge_without_eyes_for_a_talk_sees_the_last_request() -> None:
    (prompt,) = (talk("a", 2).prompt(["i cannot help with that."]),)
    assert judge_rows(PhraseJudge(), "turn2", [prompt], ["sure, take some paper."]) == [H]


def test_a_template_that_wants_turns_to_alternate_takes_a_talk_even_with_an_empty_answer() -> None:
    loaded = tiny_loaded("gemma", 0)
    loaded.tokenizer.chat_template = STRICT
    engine, talks = PlainEngine(loaded, 4), [talk("a", 3), talk("b", 1)]
    turns = replay(talks, lambda _, prompts: engine.generate_batch(prompts, 3))
    assert [len(turn) for turn in turns] == [2, 1, 1]
    assert engine.generate_batch([talks[0].prompt(["", ""])], 3)


def test_a_template_without_a_system_role_is_told_with_the_conversation() -> None:
    loaded = tiny_loaded("gemma", 0)
    loaded.tokenizer.chat_template = STRICT
    prompt = replace(talk("a", 2), system="be kind").prompt([])
    with pytest.raises(DapaError, match=r"prompt a: .*System role not supported"):
        PlainEngine(loaded, 4).generate_batch([prompt], 3)
