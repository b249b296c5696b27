"""Forward selection: add whichever item helps most, until the set passes."""

from __future__ import annotations

from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.minimise import minimise
from dapa_exp.search.problem import Problem


def greedy(problem: Problem) -> frozenset[str]:
    """Add the item that raises the score most, until the set passes. About n·k queries for a set of k items.

    Of equal scores, the more important item wins, then the first. If no single item changes the score, as in a
    conjunction, the order decides.
    """
    order = problem.ascending(problem.items)
    if problem.prior is not None:
        order.reverse()
    chosen: list[str] = []
    while not problem.passes(chosen, f"chosen {len(chosen)}"):
        scores = {item: problem.ask([*chosen, item], f"add {item}").score for item in order}
        chosen.append(max(scores, key=scores.__getitem__))
        order.remove(chosen[-1])
    return minimise(problem)


ALGORITHMS.register(
    "greedy",
    Reduction(
        greedy,
        title="Adds the unit that helps most until the set passes, then single deletions.",
        cost=(0.73, 1.83),
        whole_scores=True,
    ),
)
