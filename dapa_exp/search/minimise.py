"""One-pass deletion, and the finish of every other algorithm: it leaves a certificate behind."""

from __future__ import annotations

from dapa_exp.search.problem import Problem


def minimise(problem: Problem) -> frozenset[str]:
    """Delete one item at a time, the least important first, until every single deletion has failed.

    A pass goes on where the last success was, so on a monotone oracle an item that was needed once
    is asked for again only because the certificate is about the final answer. n + k queries for an
    answer of k where the oracle is monotone, (n² + n) / 2 at worst.
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
