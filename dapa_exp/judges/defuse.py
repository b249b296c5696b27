"""Keeps chat markers in a completion from acting on the judge model that reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKS = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>", re.I
)
"""The markers that common chat templates put around turns."""


def defused(text: str, more: Iterable[str] = ()) -> str:
    """The text with a space inside each marker that could end its turn, so that the tokenizer reads it as plain text.

    `more` are the special tokens of one tokenizer, in addition to the markers of common templates.
    """
    for mark in more:
        text = text.replace(mark, f"{mark[:1]} {mark[1:]}")
    return _MARKS.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)
