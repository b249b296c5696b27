"""Single deletions, which end every algorithm: their queries are the certificate of 1-minimality."""

from __future__ import annotations

from dapa_exp.search.problem import Problem


def minimise(problem: Problem) -> frozenset[str]:
    """Delete one item at a time, the least important first, until every single deletion has failed.

    After a success, the pass continues at the next item. On a monotone oracle, an item that was needed once is tested
    again only for the certificate, which is about the final answer. For an answer of k items, this takes n + k queries
    if the oracle is monotone, and (n² + n) / 2 at worst.
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
