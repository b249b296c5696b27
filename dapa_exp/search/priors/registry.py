"""Priors by name: which units are likely to matter, found out before the first query.

A prior maps every unit to its importance, higher being more important. It is a hint: a search may ask in its
order, and must not trust it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from torch import nn

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.config.schema import Localise
from dapa_exp.models.architecture import layer_of
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.localisation import Kind
from dapa_exp.search.priors import attribution, difference
from dapa_exp.tracing.causal import KINDS, PLACES, Tracer
from dapa_exp.tracing.forks import Fork, find_forks, read
from dapa_exp.transplant.hybrid import Hybrid

Scores = dict[str, float]


@dataclass(frozen=True)
class Evidence:
    """What there is to judge units by before a search: both checkpoints, the hybrid, and the baselines' answers."""

    pair: Pair
    hybrid: Hybrid
    loaded: LoadedModel
    """The hybrid's model."""
    prompts: Sequence[Prompt]
    teacher_answers: Sequence[str]
    student_answers: Sequence[str]
    batch_size: int
    tracing: Localise
    seed: int

    @cached_property
    def forks(self) -> list[Fork]:
        """Where the answers part: what refusing means here."""
        return find_forks(self.loaded, self.prompts, self.teacher_answers, self.student_answers)


@dataclass
class Prior:
    """The importance of every unit, and what it cost to find out."""

    name: str
    scores: Scores
    seconds: float
    forwards: int = 0
    """Prompts run forward; those that a backward pass runs again do not count."""
    backwards: int = 0
    """Prompts run backward."""


def compute_prior(name: str, evidence: Evidence) -> Prior:
    """Compute a prior by its name; the hybrid carries nothing afterwards.

    Raises DapaError where there is none of that name, or a score is not finite.
    """
    if name not in PRIORS:
        raise DapaError(f"no prior '{name}'.{nearest(name, PRIORS)} Allowed: {', '.join(PRIORS)}.")
    prior = Prior(name, {}, 0.0)
    started = time.monotonic()
    with _counted(evidence.loaded.model, prior):
        prior.scores = PRIORS[name](evidence)
    prior.seconds = time.monotonic() - started
    evidence.hybrid.carry(())
    if lost := [unit for unit, score in prior.scores.items() if not isfinite(score)]:
        raise DapaError(
            f"search.prior={name}: NaN or infinite for {len(lost)} units, such as {lost[0]}: numbers of"
            f" {evidence.loaded.model.dtype} may be too short for it; search.prior=null does without"
        )
    return prior


def uniform(evidence: Evidence) -> Scores:
    """Control: every unit matters as much as any other."""
    return dict.fromkeys(evidence.pair.units, 1.0)


def shuffled(evidence: Evidence) -> Scores:
    """Control: the scores of attribution, dealt out to units at random."""
    scores = attributed(evidence)
    dealt = list(scores.values())
    random.Random(evidence.seed).shuffle(dealt)
    return dict(zip(scores, dealt, strict=True))


def attributed(evidence: Evidence) -> Scores:
    """See `attribution`."""
    return attribution.attribution(evidence.hybrid, evidence.loaded, evidence.pair, evidence.forks, evidence.batch_size)


def single_swap(evidence: Evidence) -> Scores:
    """Mean refusal log-odds, in nats, that each unit by itself adds to the student's."""

    def log_odds(units: tuple[str, ...]) -> float:
        evidence.hybrid.carry(units)
        return float(read(evidence.loaded, evidence.forks, evidence.batch_size).log_odds.mean())

    student = log_odds(())
    return {unit: log_odds((unit,)) - student for unit in evidence.pair.units}


def causal_tracing(evidence: Evidence) -> Scores:
    """Indirect effect of each unit's layer, at the request and at the last token together, with everything
    transplanted. A projection has the score of the MLP or attention it is part of.
    """
    evidence.hybrid.carry(evidence.pair.units)
    pair = evidence.pair
    tracer = Tracer(
        evidence.loaded, pair.model_type, pair.num_layers, evidence.forks, evidence.tracing, evidence.batch_size
    )
    kinds: set[Kind] = {_kind(unit) for unit in pair.units}
    effects = {(kind, place): tracer.effects(kind, place) for kind in KINDS if kind in kinds for place in PLACES}
    return {
        unit: sum(effects[_kind(unit), place][layer_of(unit)].log_odds.value for place in PLACES) for unit in pair.units
    }


def _kind(unit: str) -> Kind:
    """The state that a unit decides: `layers.3.mlp.up_proj` that of the MLP, `layers.3` the residual stream."""
    module = unit.split(".")[2:3]
    return "residual" if not module else "mlp" if module == ["mlp"] else "attention"


PRIORS: dict[str, Callable[[Evidence], Scores]] = {
    "uniform": uniform,
    "shuffled": shuffled,
    "difference_norm": lambda evidence: difference.difference_norm(evidence.pair),
    "difference_cosine": lambda evidence: difference.difference_cosine(evidence.pair),
    "attribution": attributed,
    "single_swap": single_swap,
    "causal_tracing": causal_tracing,
}


@contextmanager
def _counted(model: nn.Module, prior: Prior) -> Iterator[None]:
    """Count in a prior the rows that go through a model, forward and back."""

    def forward(module: nn.Module, inputs: Any, output: Any) -> None:
        prior.forwards += len(output.logits)
        if output.logits.requires_grad:
            output.logits.register_hook(backward)

    def backward(gradient: Any) -> None:
        prior.backwards += len(gradient)

    handle = model.register_forward_hook(forward)
    try:
        yield
    finally:
        handle.remove()
