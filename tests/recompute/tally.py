"""Compares what a file says with what was computed here, number by number."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

RELATIVE = 1e-7
ABSOLUTE = 1e-12
"""What a number may be off by. A p-value is compared by its ratio only: it may be far smaller than that."""
_P_VALUE = re.compile(r"(^|[._])p(_value|_holm|_by_group)?$")
_MISSING = "(nothing)"


@dataclass(frozen=True)
class Near:
    """A number that the product draws by chance: it may be off by as much as that."""

    value: float
    by: float


@dataclass(frozen=True)
class Difference:
    """A number of a file that is not what was computed here."""

    file: str
    key: str
    theirs: object
    ours: object

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.theirs!r} there, {self.ours!r} here"


@dataclass
class Tally:
    """How many figures were compared, which differ, and which numbers nothing here computes."""

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """Numbers of the files that are not recomputed, by key, with stars for names and places in lists."""

    def compare(self, file: str, theirs: Any, ours: Any) -> None:
        """Every leaf of `ours` must stand in `theirs`; numbers of `theirs` without one in `ours` are counted."""
        there, here = dict(leaves(theirs)), dict(leaves(ours))
        for key, value in here.items():
            self.compared += 1
            if key not in there:
                if not (_is_empty(value) or value == 0):  # what an older record did not have yet
                    self.differences.append(Difference(file, key, _MISSING, _shown(value)))
            elif not alike(key, there[key], value):
                self.differences.append(Difference(file, key, there[key], _shown(value)))
        self.left.update(_pattern(key) for key, value in there.items() if key not in here and _is_number(value))

    def equal(self, file: str, key: str, theirs: Any, ours: Any) -> None:
        """Compare one figure."""
        self.compare(file, {key: theirs}, {key: ours})

    def as_json(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "differences": [asdict(difference) for difference in self.differences],
            "not_recomputed": dict(self.left),
        }


def leaves(nested: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers and texts of nested mappings and lists, under keys such as `search.certificate.0.dsr`."""
    if isinstance(nested, Mapping):
        items: list[tuple[object, Any]] = list(nested.items())
    elif isinstance(nested, (list, tuple)):
        items = list(enumerate(nested))
        yield f"{key}.length" if key else "length", len(nested)
    else:
        yield key, nested
        return
    for name, value in items:
        yield from leaves(value, f"{key}.{name}" if key else str(name))


def alike(key: str, theirs: Any, ours: Any) -> bool:
    """Whether a number or text of a file is what was computed here."""
    if isinstance(ours, Near):
        return _is_number(theirs) and abs(theirs - ours.value) <= ours.by
    if _is_number(theirs) and _is_number(ours):
        return math.isclose(theirs, ours, rel_tol=RELATIVE, abs_tol=0.0 if _P_VALUE.search(key) else ABSOLUTE)
    return (_is_empty(theirs) and _is_empty(ours)) or theirs == ours


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not _is_empty(value)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> Any:
    return value.value if isinstance(value, Near) else value


def _pattern(key: str) -> str:
    return re.sub(r"\b\d+\b", "*", key)
