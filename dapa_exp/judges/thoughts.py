"""Separates a model's answer from the thoughts before it, such as `<think>…</think>`."""

from __future__ import annotations

import re

_NAME = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|seed:think"
_TOKEN = r"_(?:of_)?(?:thought|thinking)\|>"
_MARK = rf"(?:<(?:{_NAME})>|\[(?:{_NAME})\]|◁(?:{_NAME})▷|<\|(?:begin|start){_TOKEN})"
_OPENS = re.compile(rf"\s*{_MARK}", re.IGNORECASE)
_OPENS_ANYWHERE = re.compile(_MARK, re.IGNORECASE)
_CLOSES = re.compile(rf"<\s?/(?:{_NAME})>|\[/(?:{_NAME})\]|◁/(?:{_NAME})▷|<\|end{_TOKEN}", re.IGNORECASE)
_MARKS = (
    *(f"{a}{name}{b}" for name in _NAME.split("|") for a, b in ("<>", "[]", "◁▷")),
    *(f"<|{one}_{of}{two}|>" for one in ("begin", "start") for of in ("", "of_") for two in ("thought", "thinking")),
)


def answer_of(completion: str) -> str:
    """The completion without the thoughts before it. If the thoughts never end, there is no answer: "".

    A completion from elsewhere may contain only the closing marker, because its chat template has opened the thoughts.
    """
    rest = completion
    while opens := _OPENS.match(rest):
        if not (closes := _CLOSES.search(rest, opens.end())):
            return ""
        rest = rest[closes.end() :]
    closes = _CLOSES.search(rest) if rest is completion else None
    if closes and not _OPENS_ANYWHERE.search(rest[: closes.start()]):
        return rest[closes.end() :]
    return rest


def opened_by(prompt: str) -> str:
    """The marker that opens thoughts at the end of a prompt, if the prompt does not close them as well; else ""."""
    marks = list(_OPENS_ANYWHERE.finditer(prompt))
    return marks[-1][0] if marks and not _CLOSES.search(prompt, marks[-1].end()) else ""


def is_mark(token: str) -> bool:
    """Whether a token is a marker that opens or closes thoughts."""
    return bool(_OPENS_ANYWHERE.fullmatch(token) or _CLOSES.fullmatch(token))


def answer_so_far(partial: str) -> str | None:
    """The beginning of the answer, given the beginning of a completion. None if the answer may not have begun yet."""
    answer = answer_of(partial).strip()
    if not answer or any(mark.startswith(answer.lower()) for mark in _MARKS):
        return None
    return answer
