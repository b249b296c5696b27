"""The values that a search works with: its queries, their outcomes, its budget and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Unit = str
"""A dotted name such as "layers.3.mlp" or "layers.3.mlp.gate_proj"."""


@dataclass(frozen=True)
class Outcome:
    """Whether a candidate passes, and its defense success rate on the search rows.

    A candidate that fails may have been asked the hardest rows only. Then its score is the rate on these rows.
    """

    passed: bool
    score: float


Test = Callable[[frozenset[Unit], str], Outcome]
"""Transplants the given units and says whether the student then reaches the bar. It is expensive.

The second argument is a label, such as "round 4: without chunk 3 of 8", that says what the algorithm was doing."""


@dataclass(frozen=True)
class Query:
    """One call of the test. `index` counts unique queries; `label` says what the algorithm was doing."""

    index: int
    label: str
    units: tuple[Unit, ...]
    outcome: Outcome


@dataclass(frozen=True)
class Budget:
    """The limits of a search. None means no limit.

    Queries of an interrupted run count, so a resumed search stops where an uninterrupted one would. Seconds count in
    this process only, from the start of the search. A search that ran out of seconds is not resumed.
    """

    queries: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of controls.

    `random` uses `k`, `repeats` and `seed`; `fixed` and `given` use `units`; `share` uses the last three.
    """

    k: int | None = None
    repeats: int = 1
    seed: int = 0
    units: tuple[Unit, ...] = ()
    units_from: str = "search.units"
    """The config key that named `units`, for the message about an unknown unit."""
    prior: Mapping[Unit, float] = field(default_factory=dict)
    parameters: Mapping[Unit, int] = field(default_factory=dict)
    """The number of parameters of each unit."""
    room: int = 0
    """How many parameters a set may have."""


@dataclass(frozen=True)
class Certificate:
    """Proof of 1-minimality: the answer passed, and failed without any one of its units.

    `passing` is the index of the query that asked for the answer. `failing` is, for each unit, the index of the query
    that asked for the answer without this unit.
    """

    passing: int
    failing: Mapping[Unit, int]


@dataclass(frozen=True)
class SearchResult:
    """The answer of a search, and all its queries.

    `passed` says whether a query has shown that `units` pass. It is false if no set passed (then `units` are all
    units), and it can be false for a control. `stopped_by` names the budget that ran out ("queries" or "seconds"); the
    answer is then the best set so far.
    """

    units: tuple[Unit, ...]
    passed: bool
    certificate: Certificate | None
    stopped_by: Literal["queries", "seconds"] | None
    queries: tuple[Query, ...]
    cache_hits: int
