"""The default: bisect to a range or a prefix, then delete what the scores say matters least.

1. Bisection is the cheapest start where important units are neighbours, or where a prior is good. It
   costs 2·log₂n queries where neither is true, which is the guard against a misleading prior.
2. If failing candidates differ in their scores, an additive model of the score (`score_model`) names the
   set most worth asking for: its chance to pass times the units it would save.
3. If they do not, as in a conjunction, ProbDD goes on from what the bisection has shown.
4. Single deletions, which are the certificate, go from the least to the most important unit.

Sets inside a set that failed are not asked for, as if the oracle were monotone, except for the certificate.
About n²/2 + 3n queries at worst, where single deletions succeed one after the other; about 0.6 n as a rule.
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

TOLERANCE = 0.15  # of all items: where scores tell items apart, finer bisection only fixes a bad order
TRUSTED = 0.5  # a prior whose shortest passing prefix is longer than this share of the items is dropped
PRIOR_REACH = 0.05  # neighbourhood, as a share of all items, over which a prior is smoothed


def auto(problem: Problem) -> frozenset[str]:
    """Narrow down, then delete."""
    shrink(problem)
    return minimise(problem)


def shrink(problem: Problem, *, certify: bool = True) -> None:
    """All of it but the finish; `certify` asks for single deletions that are not expected to pass."""
    importance = _narrow(problem)
    if _graded(problem):
        _delete_by_score(problem, importance, certify=certify)
    else:
        _delete_by_chance(problem, importance)


def _narrow(problem: Problem) -> Importance | None:
    """Bisect, in the order of the prior where that is worth it, else by position; return a prior that was."""
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
    """Find a short passing prefix of an order that passes."""
    fails, passes = 0, len(order)
    while passes - fails > (max(1.0, TOLERANCE * len(problem.items)) if _graded(problem) else 1.0):
        middle = (fails + passes) // 2
        if _may_pass(problem, order[:middle], f"{label} {middle}"):
            passes = middle
        else:
            fails = middle


def _may_pass(problem: Problem, items: Iterable[str], label: str) -> bool:
    """Ask only where no superset has failed."""
    candidate = frozenset(items)
    return not problem.surely_fails(candidate) and problem.passes(candidate, label)


def _graded(problem: Problem) -> bool:
    """Whether failing candidates differ in their scores, so that scores tell items apart."""
    return len({outcome.score for outcome in problem.seen.values() if not outcome.passed}) > 1


def _delete_by_score(problem: Problem, importance: Importance | None, *, certify: bool) -> None:
    """Ask for the most promising set, or else for the next single deletion, until all of those failed."""
    import numpy as np  # here and below, since a config is read without it

    from dapa_exp.search.score_model import ScoreModel

    items = problem.items
    kinds = [".".join(part for part in item.split(".") if not part.isdigit()) for item in items]
    model = ScoreModel(kinds, None if importance is None else np.array([importance[item] for item in items]))
    patience = len(items)  # proposals that may fail, lest an oracle without structure cost more than ddmin
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
    """Return the set of items of most effect for their weight that promises to save most, if that is worth a query."""
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
    """ProbDD over what bisection left: the fewer items are left, the likelier each of them is needed."""
    order = problem.remaining()
    if importance is not None:
        order.sort(key=importance.__getitem__)
    # Half-way, on a log scale, between one item needed and all of them.
    chance = min(1.0, sqrt(len(problem.items)) / max(1, len(order)))
    remove_unlikely(
        {item: 1.0 if problem.surely_fails(problem.best - {item}) else chance for item in order},
        partial(_may_pass, problem),
    )


def _smoothed(items: Sequence[str], prior: Mapping[str, float]) -> Importance:
    """Lend every item half of its neighbours' importance: priors are noisy, and neighbours alike."""
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
