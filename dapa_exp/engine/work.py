"""Counts an engine's work in tokens: the part of a query's cost that does not depend on the machine."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class TokenWork:
    """Tokens that the model has read. Padding is not counted."""

    prompt: int = 0
    """Tokens of prompts, including the chat template. Tokens that a batch shares may be read once."""
    draft: int = 0
    """Tokens of drafts."""
    decoded: int = 0
    """Tokens of the hybrid's own answers, read one at a time."""
    layers: int = 0
    """Passes of a token through a layer."""
    layers_spared: int = 0
    """Passes that were not needed, because an earlier hybrid had made them."""
    near_ties: int = 0
    """Batches that the reference engine had to decide."""

    def __add__(self, other: TokenWork) -> TokenWork:
        return TokenWork(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: TokenWork) -> TokenWork:
        return TokenWork(*(ours - theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))
