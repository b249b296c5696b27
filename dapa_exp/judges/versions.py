"""The versions of all judges, where they can be read without loading any."""

from __future__ import annotations

VERSIONS = {"phrases": "2", "chat": "1", "dapa_paper": "1", "classifier": "2", "guard": "1", "judgezoo": "1"}
"""Raise a judge's whenever one of its verdicts could change: its rule, its words, or how a reply is read."""


def with_model(judge: str, model: str, revision: str | None = None) -> str:
    """The version of a judge that asks a model: with another model it is another judge."""
    return f"{VERSIONS[judge]} ({model}{f' {revision}' if revision else ''})"
