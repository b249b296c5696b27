"""One row of a prompt set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    """One row: a request (the last turn of a conversation of one or several), a question with its answer, or a text."""

    id: str
    messages: tuple[Message, ...]
    category: str | None = None
    answer: str | None = None

    @property
    def text(self) -> str:
        """The last turn: what is asked, or the text itself."""
        return self.messages[-1].content


def prompt(name: str, text: str, **other: str | None) -> Prompt:
    """A row of a single user turn."""
    return Prompt(name, (Message("user", text),), **other)
