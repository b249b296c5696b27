"""The errors that a user is meant to read: one clear message, no traceback."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class DapaError(Exception):
    """Something the user can act on: the message says what is wrong, where, and what is allowed."""


class StoppedError(Exception):
    """A run has come as far as it was asked to (`record.until`). Nothing went wrong."""


FEW = 20
"""A message lists all allowed names only if there are at most this many."""


def nearest(name: str, allowed: Iterable[str], most: int = 1) -> str:
    """Return " Did you mean 'x' or 'y'?" with the allowed names closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=most, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def allowed_names(name: str, allowed: Iterable[str], head: str = "Allowed", listed_by: str = "") -> str:
    """Return the end of the message about an unknown name: the nearest allowed name, and all allowed names.

    If there are more than FEW, it has the three nearest, and `listed_by`, the command that lists all.
    """
    names = list(allowed)
    if listed_by and len(names) > FEW:
        return f"{nearest(name, names, 3)} `{listed_by}` lists all {len(names)}"
    return f"{nearest(name, names)} {head}: {', '.join(names)}"


def one_line(error: object) -> str:
    """What an error says, without its line breaks."""
    return " ".join(str(error).split())


def complain(error: DapaError) -> None:
    """Show an error to the user."""
    print(f"error: {error}", file=sys.stderr, flush=True)
