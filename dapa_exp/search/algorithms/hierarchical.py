"""Hierarchical delta debugging: whole layers first, then the modules inside the needed layers.

G. Misherghi, Z. Su: HDD: Hierarchical Delta Debugging. ICSE 2006.
The levels follow from the dotted names: "layers.3.mlp.gate_proj" is part of "layers.3.mlp", and that of "layers.3".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.algorithms.auto import auto, shrink
from dapa_exp.search.problem import Problem
from dapa_exp.search.query import Outcome


def hierarchical(problem: Problem) -> frozenset[str]:
    """Shrink the set level by level, the coarsest first, then run `auto` on the units that are left.

    Published HDD makes every level 1-minimal. Here only the last level is: the others would cost a query for each item,
    and the next level changes the set again.
    """
    deepest = max(item.count(".") for item in problem.items) + 1
    before = 1
    for depth in range(1, deepest):
        groups = _groups(problem, depth)
        if before < len(groups) < len(problem.best):
            shrink(_level(problem, groups), certify=False)
            before = len(_groups(problem, depth))
    return auto(problem)


def _groups(problem: Problem, depth: int) -> dict[str, list[str]]:
    """The remaining items, grouped by the first `depth` parts of their names."""
    groups: dict[str, list[str]] = {}
    for item in problem.remaining():
        groups.setdefault(".".join(item.split(".")[:depth]), []).append(item)
    return groups


def _level(problem: Problem, groups: dict[str, list[str]]) -> Problem:
    """The same problem with groups as items. Importance and weight of a group are the sums over its items."""

    def ask(chosen: Iterable[str], label: str) -> Outcome:
        return problem.ask((item for group in chosen for item in groups[group]), label)

    def sums(of: Mapping[str, float] | None) -> dict[str, float] | None:
        return None if of is None else {group: sum(of[item] for item in items) for group, items in groups.items()}

    return Problem(tuple(groups), ask, sums(problem.prior), sums(problem.weights if problem.weighted else None))


ALGORITHMS.register(
    "hierarchical",
    Reduction(
        hierarchical,
        title="Layers, then modules, then projections (after Misherghi and Su 2006).",
        cost=(4.50, 0.45),
    ),
)
