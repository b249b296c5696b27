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
    """One row of a prompt set: a request, a question with its right answer, or a text.

    A request is the last turn of a conversation, which may have only that turn.
    """

    id: str
    messages: tuple[Message, ...]
    category: str | None = None
    answer: str | None = None
    request: str | None = None
    """What the last turn asks for, where it has a published jailbreak around it. None: the turn's content."""

    @property
    def text(self) -> str:
        """The request, the question or the text. Judges see it."""
        return self.messages[-1].content if self.request is None else self.request


def prompt(name: str, text: str, **other: str | None) -> Prompt:
    """A row with a single user turn, and the id `name`."""
    return Prompt(name, (Message("user", text),), **other)
