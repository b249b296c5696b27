"""What a search asks and what it answers: plain values, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Unit = str
"""A dotted name such as "layers.3.mlp" or "layers.3.mlp.gate_proj"."""


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate: does it pass, and its defense success rate on the search rows.

    A candidate that fails need not have been asked all rows; its score is then that of the hardest ones.
    """

    passed: bool
    score: float


Test = Callable[[frozenset[Unit], str], Outcome]
"""Transplants the given units and says whether the student now defends itself. Expensive.

The second argument is a label, such as "r3/c2", which says what the algorithm was doing."""


@dataclass(frozen=True)
class Query:
    """One call of the test. `index` counts unique queries; `label` says what the algorithm was doing."""

    index: int
    label: str
    units: tuple[Unit, ...]
    outcome: Outcome


@dataclass(frozen=True)
class Budget:
    """What a search may spend; None means without limit.

    Queries answered by an interrupted run count as queries, so a resumed search stops where an
    undisturbed one would. Seconds count in this process only, from the start of the search; one that
    they ended is not gone on with.
    """

    queries: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Settings:
    """What the controls need: `random` takes `k`, `repeats` and `seed`, `fixed` and `given` take `units`."""

    k: int | None = None
    repeats: int = 1
    seed: int = 0
    units: tuple[Unit, ...] = ()
    units_from: str = "search.units"
    """What in the config named them, for a message about one that is not there."""


@dataclass(frozen=True)
class Certificate:
    """Proof of 1-minimality: the answer passed, and failed without any one of its units.

    Both are indices of queries in the trace: of the answer itself, and for each unit of the query
    that asked for the answer without it.
    """

    passing: int
    failing: Mapping[Unit, int]


@dataclass(frozen=True)
class SearchResult:
    """The answer of a search, with everything that was asked on the way to it.

    `units` was seen to pass where `passed` is true. It is not where nothing passed (all units are
    then given back) or where a control was asked for. `stopped_by` names the budget that ran out
    ("queries" or "seconds"); the answer is then the best so far.
    """

    units: tuple[Unit, ...]
    passed: bool
    certificate: Certificate | None
    stopped_by: Literal["queries", "seconds"] | None
    queries: tuple[Query, ...]
    cache_hits: int
