"""What an engine did, in tokens: the part of a query's cost that does not depend on the machine."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class TokenWork:
    """Tokens read, by what for; padding is not counted."""

    prompt: int = 0
    """Of prompts, the template among them; a beginning that a batch shares may be read once for all."""
    draft: int = 0
    """Of earlier hybrids' answers."""
    decoded: int = 0
    """Of its own answers, one at a time."""
    layers: int = 0
    """Passes of a token through a layer."""
    layers_spared: int = 0
    """Passes that an earlier hybrid had made."""
    near_ties: int = 0
    """Batches that the reference had to decide."""

    def __add__(self, other: TokenWork) -> TokenWork:
        return TokenWork(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: TokenWork) -> TokenWork:
        return TokenWork(*(ours - theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))
