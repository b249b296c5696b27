"""Single deletions, which end every algorithm: their queries are the certificate of 1-minimality."""

from __future__ import annotations

from dapa_exp.search.problem import Problem


def minimise(problem: Problem) -> frozenset[str]:
    """Delete one item at a time, the least important first, until every single deletion has failed.

    After a success, the pass continues at the next item. If the oracle is monotone, an item found needed is tested a
    second time only for the certificate of the final set. A set of k items then takes n + k queries; at worst, it takes
    (n² + n) / 2.
    """
    answer = problem.ascending(problem.best)
    position = failures = 0
    while failures < len(answer):
        position %= len(answer)
        rest = answer[:position] + answer[position + 1 :]
        if problem.passes(rest, f"without {answer[position]}"):
            answer, failures = rest, 0
        else:
            position, failures = position + 1, failures + 1
    return frozenset(answer)
