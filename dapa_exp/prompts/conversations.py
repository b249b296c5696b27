"""Conversations of several turns: what the user says, one turn after another. The model's own answers stand between."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dapa_exp.base.errors import DapaError
from dapa_exp.config.dataset import ConversationRows
from dapa_exp.prompts.prompt import Message, Prompt
from dapa_exp.prompts.rows import cell, read_chosen

OTHERS = ("assistant", "model", "bot", "gpt")
"""Roles whose turns are left out: the model that is measured answers itself."""


@dataclass(frozen=True)
class Conversation:
    """What a user says in a conversation, turn by turn."""

    id: str
    turns: tuple[str, ...]
    category: str | None = None
    system: str | None = None
    opening: int = 0
    """The number of first turns that ask for no harm. Answers to them are not judged."""

    def prompt(self, answers: Sequence[str]) -> Prompt:
        """The request that follows these answers of the model, with all turns and answers before it."""
        messages = [] if self.system is None else [Message("system", self.system)]
        for request, answer in zip(self.turns, answers, strict=False):
            messages += [Message("user", request), Message("assistant", answer)]
        return Prompt(self.id, (*messages, Message("user", self.turns[len(answers)])), self.category)

    def judges(self, turn: int) -> bool:
        """Whether the answer to this turn, counted from 1, is judged."""
        return self.opening < turn <= len(self.turns)


def turn_set(turn: int) -> str:
    """The name of the prompt set of a turn, counted from 1: `turn1`."""
    return f"turn{turn}"


def turn_of(prompt_set: str) -> int | None:
    """The turn that a prompt set is of; None if it is no turn's."""
    found = re.fullmatch(r"turn(\d+)", prompt_set)
    return int(found[1]) if found else None


def load_conversations(rows: ConversationRows) -> list[Conversation]:
    """Read the conversations that the config names. Raises DapaError, which names file and line."""
    fixed = () if rows.column.endswith("*") else (rows.column,)
    table, names = read_chosen(rows, [*fixed, rows.category_column, rows.opening_column])
    columns = rows.turn_columns(table.columns)
    if not columns:
        raise DapaError(f"{rows.source}: no column '{rows.column}' with a number; it has: {', '.join(table.columns)}")

    def conversation(place: int, name: str) -> Conversation:
        row = table.rows[place]
        try:
            said = [turn for column in columns if row[column] not in (None, "") for turn in _turns(rows, row[column])]
            system, turns = _checked(said)
            opening = _opening(row[rows.opening_column], len(turns)) if rows.opening_column else 0
        except ValueError as error:
            raise DapaError(f"{rows.source}: {table.at(place)}: {error}") from None
        return Conversation(name, turns, cell(rows, place, row, rows.category_column), system, opening)

    return [conversation(place, name) for place, name in names.items()]


def _turns(rows: ConversationRows, value: Any) -> Iterator[tuple[str, Any]]:
    """Role and text of the turns in a cell: a text, an object, or a list of these, perhaps written as JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with suppress(ValueError):  # a text that begins with a bracket
            value = json.loads(value)
    for turn in value if isinstance(value, list) else [value]:
        if not isinstance(turn, dict):
            yield "user", turn
            continue
        for key in (rows.text_key, rows.role_key):
            if key is not None and key not in turn:
                raise ValueError(f"a turn has no '{key}', only {', '.join(turn)}: text_key and role_key name its keys")
        role = rows.user if rows.role_key is None else turn[rows.role_key]
        if role not in (rows.user, "system", *OTHERS):
            raise ValueError(f"a turn has the role {role!r}; allowed: {', '.join((rows.user, 'system', *OTHERS))}")
        if role in (rows.user, "system"):
            yield ("user" if role == rows.user else "system"), turn[rows.text_key]


def _checked(said: Sequence[tuple[str, Any]]) -> tuple[str | None, tuple[str, ...]]:
    """The system prompt, if there is one, and the user's turns. Raises ValueError if one is empty or no text."""
    for number, (role, text) in enumerate(said, 1):
        if not isinstance(text, str):
            raise ValueError(f"turn {number} of the {role} is no text, but {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"turn {number} of the {role} is empty")
        if role == "system" and number > 1:
            raise ValueError("a system prompt must be the first turn, and there can be only one")
    turns = tuple(text for role, text in said if role == "user")
    if not turns:
        raise ValueError("the user says nothing")
    return next((text for role, text in said if role == "system"), None), turns


def _opening(value: Any, turns: int) -> int:
    if not str(value).isdecimal() or int(value) >= turns:
        raise ValueError(f"{value!r} turns that are not judged; there are {turns}, so 0 to {turns - 1} are allowed")
    return int(value)
