"""Delta debugging: try chunks, then everything but one chunk, then cut smaller chunks.

A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input. IEEE TSE 28(2), 2002, section 3.
Where items have weights, chunks are about equally heavy (X. Zhou et al.: WDD: Weighted Delta Debugging, arXiv
2411.19410). Worst case n² + 3n queries, best case 2·log₂n. The last round, with chunks of one unit, is the certificate:
`minimise` finds these queries in the cache. It adds one only for a set of one unit: whether the empty set passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count

from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.minimise import minimise
from dapa_exp.search.problem import Problem

Chunk = tuple[str, ...]
Reduced = tuple[list[Chunk], float]
"""The chunks that are left, and which complement of them to try first."""


def ddmin(problem: Problem) -> frozenset[str]:
    """Delta debugging as published: in every round the chunks first, then their complements."""
    _delta_debug(problem, try_chunks=True)
    return minimise(problem)


def ddmin_complements(problem: Problem) -> frozenset[str]:
    """Delta debugging without the chunks: a chunk that is smaller than the needed set nearly always fails."""
    _delta_debug(problem, try_chunks=False)
    return minimise(problem)


def _delta_debug(problem: Problem, *, try_chunks: bool) -> None:
    chunks = [problem.items]
    first = 0.0
    for run in count():
        config = tuple(chain.from_iterable(chunks))
        if len(config) < 2:
            return
        if len(chunks) == 1:
            chunks = _split(problem, config, 2)
        reduced = _to_chunk(problem, chunks, run) if try_chunks else None
        reduced = reduced or _to_complement(problem, chunks, first, run)
        if reduced is not None:
            chunks, first = reduced
        elif len(chunks) < len(config):
            finer = _split(problem, config, min(2 * len(chunks), len(config)))
            first = first * len(finer) / len(chunks)  # the same place, counted in finer chunks
            chunks = finer
        else:
            return


def _split(problem: Problem, items: Sequence[str], n: int) -> list[Chunk]:
    """Cut items into n chunks as Zeller's reference implementation does: each takes its share of the items left.

    A chunk takes items as long as it is not heavier than an n-th of the rest, and leaves one for each chunk after it.
    """
    chunks = []
    start = 0
    for left in range(n, 0, -1):
        most, stop = problem.weight(items[start:]) / left, start + 1
        while stop <= len(items) - left and problem.weight(items[start : stop + 1]) <= most:
            stop += 1
        chunks.append(tuple(items[start : stop if left > 1 else None]))
        start = stop
    return chunks


def _to_chunk(problem: Problem, chunks: list[Chunk], run: int) -> Reduced | None:
    for i, chunk in enumerate(chunks):
        if problem.passes(chunk, f"round {run + 1}: chunk {i + 1} of {len(chunks)}"):
            return [chunk], 0.0
    return None


def _to_complement(problem: Problem, chunks: list[Chunk], first: float, run: int) -> Reduced | None:
    """Try complements, from the chunk after the last removed one: the chunks before it were just found needed."""
    for step in range(len(chunks)):
        i = int(step + first) % len(chunks)
        rest = chunks[:i] + chunks[i + 1 :]
        if problem.passes(chain.from_iterable(rest), f"round {run + 1}: without chunk {i + 1} of {len(chunks)}"):
            return rest, float(i)
    return None


ALGORITHMS.register(
    "ddmin",
    Reduction(ddmin, title="Delta debugging (Zeller and Hildebrandt 2002): the paper's search.", cost=(5.51, 0.62)),
)
ALGORITHMS.register(
    "ddmin_complements",
    Reduction(ddmin_complements, title="Delta debugging that asks for complements only.", cost=(4.15, 0.57)),
)
