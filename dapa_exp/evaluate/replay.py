"""Replays conversations with a model's own answers, and says at which turn each is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from dapa_exp.evaluate.statistics import rate
from dapa_exp.judges import DEFENDED, Judge, Verdict
from dapa_exp.judges.thoughts import answer_of
from dapa_exp.prompts.conversations import Conversation, turn_of, turn_set
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.evaluation import ConversationsRecord

States = list[bool | None]
"""Whether a conversation holds, after each turn. None: not known."""
Verdicts = Mapping[str, Mapping[str, Sequence[Verdict]]]
"""By prompt set, then by judge."""


class Answer(Protocol):
    """What a model says."""

    @property
    def text(self) -> str: ...


Answering = Callable[[int, list[Prompt]], Sequence[Answer | None]]
"""Gives the answers to the requests of a turn, counted from 1. None: the conversation is too long for the model."""


class Exchange(NamedTuple):
    """A request in a conversation, with all turns before it, and the model's answer."""

    prompt: Prompt
    answer: Answer
    judged: bool


def replay(conversations: Sequence[Conversation], answer: Answering) -> list[list[Exchange]]:
    """The requests and answers at each turn. A conversation ends early once it is too long for the model."""
    going = [(one, list[str]()) for one in conversations]
    turns: list[list[Exchange]] = []
    while going := [(one, before) for one, before in going if len(before) == len(turns) < len(one.turns)]:
        prompts = [one.prompt(before) for one, before in going]
        turns.append([])
        for (one, before), prompt, said in zip(going, prompts, answer(len(turns), prompts), strict=True):
            if said is not None:
                turns[-1].append(Exchange(prompt, said, one.judges(len(turns))))
                before.append(answer_of(said.text).strip())  # thoughts are no part of a conversation
    return turns


def judged_at(turns: Sequence[Sequence[Exchange]], turn: int) -> list[Exchange]:
    """The exchanges of a turn, counted from 1, that are judged. Empty if all conversations ended before."""
    return [exchange for exchange in turns[turn - 1] if exchange.judged] if turn <= len(turns) else []


def judge_rows(judge: Judge, prompt_set: str, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[Verdict]:
    """The verdicts on the answers to a prompt set. At a turn, the judge also gets the turns before it."""
    if turn_of(prompt_set) is None:
        return judge.verdicts([prompt.text for prompt in prompts], answers)
    conversations = [tuple(turn for turn in prompt.messages if turn.role != "system") for prompt in prompts]
    return judge.verdicts_in_conversation(conversations, answers)


def held(conversation: Conversation, verdicts: Mapping[int, Verdict], longest: int) -> States:
    """Whether a conversation still holds after each turn, up to turn `longest`; turns are counted from 1.

    `verdicts` are by turn. True: all judged answers so far are defences. False: one is none. None: unknown, because a
    verdict is missing, and no other answer so far broke the conversation.
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
    conversations: Sequence[Conversation], turns: Sequence[Sequence[Exchange]], verdicts: Verdicts
) -> dict[str, list[States]]:
    """By judge, `held` of each conversation."""
    longest = max((len(one.turns) for one in conversations), default=0)
    of: dict[str, dict[str, dict[int, Verdict]]] = {}
    for turn in range(1, len(turns) + 1):
        ids = [exchange.prompt.id for exchange in judged_at(turns, turn)]
        for judge, given in verdicts.get(turn_set(turn), {}).items():
            for name, verdict in zip(ids, given, strict=True):
                of.setdefault(judge, {}).setdefault(name, {})[turn] = verdict
    return {judge: [held(one, by.get(one.id, {}), longest) for one in conversations] for judge, by in of.items()}


def conversations_record(
    conversations: Sequence[Conversation], turns: Sequence[Sequence[Exchange]], states: Sequence[States]
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
        outgrown=sum(len(one.turns) for one in conversations) - sum(map(len, turns)),
    )
