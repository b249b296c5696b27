"""The errors that a user is meant to read: one clear message, no traceback."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class DapaError(Exception):
    """Something the user can act on: the message says what is wrong, where, and what is allowed."""


class StoppedError(Exception):
    """A run has come as far as it was asked to (`record.until`). Nothing went wrong."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the allowed name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def one_line(error: object) -> str:
    """What an error says, without its line breaks."""
    return " ".join(str(error).split())


def complain(error: DapaError) -> None:
    """Show an error to the user."""
    print(f"error: {error}", file=sys.stderr, flush=True)
