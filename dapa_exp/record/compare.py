"""Compares the records of two runs of one config: what a result is, and not when and where it was computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

from dapa_exp.record.schema import Record

Grade = Literal["identical", "within numerics", "different"]
Difference = tuple[str, Any, Any]
"""A dotted key, and the two values there."""

RELATIVE, ABSOLUTE = 1e-3, 1e-6
"""Two numbers that are not counts may differ by so much: the rounding of another processor or library."""
_NOT_RESULTS: Any = {
    **dict.fromkeys(("identity", "experiment", "cost", "provenance"), True),
    "search": {"ledger": True, "students": {"__all__": {"ledger"}}},
}


def differences(ours: Record, theirs: Record) -> list[Difference]:
    """All places in which the results of two records differ."""
    dumped = [record.model_dump(mode="json", exclude=_NOT_RESULTS) for record in (ours, theirs)]
    return list(_differences("", *dumped))


def grade(found: list[Difference]) -> Grade:
    """How well one record reproduces another, from their differences."""
    if not found:
        return "identical"
    return "within numerics" if all(_is_near(old, new) for _, old, new in found) else "different"


def _differences(key: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{key}.{name}" if key else name, old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{key}[{place}]", *pair)
    elif old != new:
        yield key, old, new


def _is_near(old: Any, new: Any) -> bool:
    numbers = isinstance(old, float) and isinstance(new, float)
    return numbers and math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
