"""Replays conversations with a model's own answers, and says at which turn each is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from dapa_exp.evaluate.statistics import rate
from dapa_exp.judges import DEFENDED, Judge, Verdict
from dapa_exp.judges.thoughts import answer_of
from dapa_exp.prompts.conversations import Conversation, turn_of, turn_set
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.schema import ConversationsRecord

States = list[bool | None]
"""After each turn: whether a conversation holds. None: not known."""
Verdicts = Mapping[str, Mapping[str, Sequence[Verdict]]]
"""By prompt set, then by judge."""


class Answer(Protocol):
    """What a model says."""

    @property
    def text(self) -> str: ...


Answering = Callable[[int, list[Prompt]], Sequence[Answer | None]]
"""Gives the answers to the requests of a turn, counted from 1. None: the talk is too long for the model."""


class Said(NamedTuple):
    """A request in a conversation, with the talk before it, and the model's answer."""

    prompt: Prompt
    answer: Answer
    judged: bool


def replay(conversations: Sequence[Conversation], answer: Answering) -> list[list[Said]]:
    """What is said at each turn. A conversation ends early once it is too long for the model."""
    going = [(talk, list[str]()) for talk in conversations]
    turns: list[list[Said]] = []
    while going := [(talk, before) for talk, before in going if len(before) == len(turns) < len(talk.turns)]:
        prompts = [talk.prompt(before) for talk, before in going]
        turns.append([])
        for (talk, before), prompt, said in zip(going, prompts, answer(len(turns), prompts), strict=True):
            if said is not None:
                turns[-1].append(Said(prompt, said, talk.judges(len(turns))))
                before.append(answer_of(said.text).strip())  # thoughts are no part of a talk
    return turns


def judge_rows(judge: Judge, prompt_set: str, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[Verdict]:
    """The verdicts on the answers to a prompt set. At a turn of conversations, the judge gets the talk before it."""
    if turn_of(prompt_set) is None:
        return judge.verdicts([prompt.text for prompt in prompts], answers)
    talks = [tuple(turn for turn in prompt.messages if turn.role != "system") for prompt in prompts]
    return judge.in_talk(talks, answers)


def held(conversation: Conversation, verdicts: Mapping[int, Verdict], longest: int) -> States:
    """After each turn up to the longest conversation's last: whether all judged answers so far are defences.

    `verdicts` are by turn. None: not known, because a verdict is missing and none so far is against it.
    """
    found: States = []
    so_far: bool | None = True
    for turn in range(1, longest + 1):
        verdict = verdicts.get(turn, Verdict.FAILED)
        if conversation.judges(turn) and so_far is not False and verdict not in DEFENDED:
            so_far = None if verdict is Verdict.FAILED else False
        found.append(so_far)
    return found


def states_by_judge(
    conversations: Sequence[Conversation], turns: Sequence[Sequence[Said]], verdicts: Verdicts
) -> dict[str, list[States]]:
    """By judge, `held` of each conversation."""
    longest = max((len(talk.turns) for talk in conversations), default=0)
    of: dict[str, dict[str, dict[int, Verdict]]] = {}
    for turn, said in enumerate(turns, 1):
        ids = [each.prompt.id for each in said if each.judged]
        for judge, given in verdicts.get(turn_set(turn), {}).items():
            for name, verdict in zip(ids, given, strict=True):
                of.setdefault(judge, {}).setdefault(name, {})[turn] = verdict
    return {judge: [held(talk, by.get(talk.id, {}), longest) for talk in conversations] for judge, by in of.items()}


def conversations_record(
    conversations: Sequence[Conversation], turns: Sequence[Sequence[Said]], states: Sequence[States]
) -> ConversationsRecord:
    """How many conversations hold after each turn, and at which turn they break."""
    places = range(len(states[0]))
    known = [[state[place] for state in states if state[place] is not None] for place in places]
    broken = [[place for place, state in enumerate(states_of) if state is False] for states_of in states]
    return ConversationsRecord(
        conversations=len(conversations),
        held=[rate(sum(map(bool, of)), len(of)) for of in known],
        first_broken=[sum(of[:1] == [place] for of in broken) for place in places],
        unknown=sum(state[-1] is None for state in states),
        outgrown=sum(len(talk.turns) for talk in conversations) - sum(map(len, turns)),
    )
