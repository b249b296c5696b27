"""The default algorithm: bisect to a range or a prefix, then delete the units that matter least by the scores.

1. Bisection is the cheapest start if the needed units are neighbours, or if a prior is good. If neither is true, it
   wastes about 2·log₂n queries. This bounds the cost of a misleading prior.
2. If failing sets differ in their scores, an additive model of the score (`score_model`) proposes the next set: the one
   with the largest product of its probability to pass and the units that it saves.
3. If all failing sets have the same score, as in a conjunction, ProbDD continues from the result of the bisection.
4. Single deletions, from the least to the most important unit, make the certificate.

Subsets of a failed set are skipped, as if the oracle were monotone, except for the certificate. About n²/2 + 3n queries
at worst, if single deletions succeed one after the other; about 0.6 n in most searches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING

from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.algorithms.probdd import remove_unlikely
from dapa_exp.search.minimise import minimise
from dapa_exp.search.problem import Problem

if TYPE_CHECKING:
    from dapa_exp.search.score_model import Array, ScoreModel

Importance = dict[str, float]

TOLERANCE = 0.15  # share of the items at which bisection stops if failing sets differ in their scores
TRUSTED = 0.5  # a prior is dropped if its shortest passing prefix has more than this share of the items
PRIOR_REACH = 0.05  # width of the smoothing of a prior, as a share of all items


def auto(problem: Problem) -> frozenset[str]:
    """Shrink the set (steps 1 to 3 above), then certify it by single deletions."""
    shrink(problem)
    return minimise(problem)


def shrink(problem: Problem, *, certify: bool = True) -> None:
    """Steps 1 to 3. With `certify`, also single deletions that are unlikely to pass, guided by the score model."""
    importance = _narrow(problem)
    if _graded(problem):
        _delete_by_score(problem, importance, certify=certify)
    else:
        _delete_by_chance(problem, importance)


def _narrow(problem: Problem) -> Importance | None:
    """Bisect in the order of the prior. If that does not halve the items, bisect by position: the end, then the start.

    Returns the smoothed prior if it was good enough to keep, else None.
    """
    problem.ask(problem.items, "all")
    if problem.prior is not None:
        importance = _smoothed(problem.items, problem.prior)
        _bisect(problem, sorted(problem.remaining(), key=importance.__getitem__, reverse=True), "prefix")
        if len(problem.best) <= TRUSTED * len(problem.items):
            return importance
    _bisect(problem, problem.remaining(), "end")
    _bisect(problem, problem.remaining()[::-1], "start")
    return None


def _bisect(problem: Problem, order: Sequence[str], label: str) -> None:
    """Find a short passing prefix of `order`, which passes as a whole. If scores differ, stop at TOLERANCE."""
    fails, passes = 0, len(order)
    while passes - fails > (max(1.0, TOLERANCE * len(problem.items)) if _graded(problem) else 1.0):
        middle = (fails + passes) // 2
        if _may_pass(problem, order[:middle], f"{label} {middle}"):
            passes = middle
        else:
            fails = middle


def _may_pass(problem: Problem, items: Iterable[str], label: str) -> bool:
    """Whether a set passes. It is not tested if a superset has failed."""
    candidate = frozenset(items)
    return not problem.surely_fails(candidate) and problem.passes(candidate, label)


def _graded(problem: Problem) -> bool:
    """Whether failing candidates differ in their scores, so that scores tell items apart."""
    return len({outcome.score for outcome in problem.seen.values() if not outcome.passed}) > 1


def _delete_by_score(problem: Problem, importance: Importance | None, *, certify: bool) -> None:
    """Test the most promising set; if none is promising, the next single deletion. Stop once all of these failed."""
    import numpy as np  # here and below, since a config is read without it

    from dapa_exp.search.score_model import ScoreModel

    items = problem.items
    kinds = [".".join(part for part in item.split(".") if not part.isdigit()) for item in items]
    model = ScoreModel(kinds, None if importance is None else np.array([importance[item] for item in items]))
    patience = len(items)  # failed proposals allowed, so that an oracle without structure costs no more than ddmin
    while problem.best:
        outcomes = list(problem.seen.values())
        model.fit(
            _rows(items, problem.seen),
            np.array([outcome.score for outcome in outcomes]),
            np.array([outcome.passed for outcome in outcomes]),
        )
        effect = dict(zip(items, model.weights.tolist(), strict=True))
        proposal = _proposal(problem, model, effect) if patience else None
        if proposal is not None:
            patience -= not problem.passes(proposal, f"heaviest {len(proposal)}")
            continue
        if not certify:
            return
        least_first = sorted(problem.remaining(), key=lambda item: effect[item] / problem.weights[item])
        untried = [item for item in least_first if problem.best - {item} not in problem.seen]
        if not untried:
            break
        problem.ask(problem.best - {untried[0]}, f"without {untried[0]}")


def _proposal(problem: Problem, model: ScoreModel, effect: dict[str, float]) -> frozenset[str] | None:
    """The set with the largest expected saving: its probability to pass × the weight that it saves.

    Candidates are the k items with the most effect per weight, for each k. None if the best saves less than 1 (the mean
    weight of an item).
    """
    in_order = sorted(problem.items, key=lambda item: effect[item] / problem.weights[item], reverse=True)
    sizes = range(len(problem.items))
    candidates = [frozenset(in_order[:size]) for size in sizes]
    chances = model.chances(_rows(problem.items, candidates))
    best = problem.weight(problem.best)
    gains = [
        0.0
        if candidate in problem.seen or problem.surely_fails(candidate)
        else chance * (best - problem.weight(candidate))
        for candidate, chance in zip(candidates, chances.tolist(), strict=True)
    ]
    most = max(gains)
    return candidates[gains.index(most)] if most >= 1.0 else None


def _delete_by_chance(problem: Problem, importance: Importance | None) -> None:
    """Run ProbDD on the items that bisection has left. The fewer there are, the likelier each is needed."""
    order = problem.remaining()
    if importance is not None:
        order.sort(key=importance.__getitem__)
    # So that √n of n items are expected to be needed: the geometric mean of one and all.
    chance = min(1.0, sqrt(len(problem.items)) / max(1, len(order)))
    remove_unlikely(
        {item: 1.0 if problem.surely_fails(problem.best - {item}) else chance for item in order},
        partial(_may_pass, problem),
    )


def _smoothed(items: Sequence[str], prior: Mapping[str, float]) -> Importance:
    """The prior plus its average over neighbouring items, since priors are noisy and neighbours are similar."""
    import numpy as np

    from dapa_exp.search.score_model import neighbourhood

    raw = np.array([prior[item] for item in items])
    raw -= raw.min()  # so that rounding tells no items apart that are equally important
    near = neighbourhood(len(raw), PRIOR_REACH)
    around = near @ raw / near.sum(axis=1)
    return dict(zip(items, (raw + around).tolist(), strict=True))


def _rows(items: Sequence[str], sets: Iterable[frozenset[str]]) -> Array:
    import numpy as np

    return np.array([[item in chosen for item in items] for chosen in sets], dtype=float)


ALGORITHMS.register(
    "auto",
    Reduction(
        auto,
        title="The default: bisection, an additive model of the scores, single deletions.",
        cost=(4.59, 0.44),
    ),
)
