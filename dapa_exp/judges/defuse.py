"""Keeps what a completion says from acting on the judge that reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKS = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>", re.I
)
"""What chat templates mark turns with."""


def defused(text: str, more: Iterable[str] = ()) -> str:
    """The text with a space inside each mark that could end its turn, so that it is text and nothing else.

    `more` are the marks of one tokenizer, in addition to those of the common templates.
    """
    for mark in more:
        text = text.replace(mark, f"{mark[:1]} {mark[1:]}")
    return _MARKS.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)
