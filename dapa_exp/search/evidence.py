"""What a prior is made from, and what it costs to make one.

A prior maps every unit to its importance, higher being more important. It is a hint: a search may ask in its
order, and must not trust it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from torch import nn

from dapa_exp.base.errors import DapaError
from dapa_exp.config.registries import PRIORS
from dapa_exp.config.schema import Localise
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.tracing.forks import Fork, find_forks
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
    """Compute a prior by its name; the model is the student again afterwards.

    Raises DapaError where there is none of that name, or a score is not finite.
    """
    make = PRIORS.get(name)
    prior = Prior(name, {}, 0.0)
    started = time.monotonic()
    with _counted(evidence.loaded.model, prior):
        prior.scores = make(evidence)
    prior.seconds = time.monotonic() - started
    evidence.hybrid.set_units(())
    if lost := [unit for unit, score in prior.scores.items() if not isfinite(score)]:
        raise DapaError(
            f"search.prior={name}: NaN or infinite for {len(lost)} units, such as {lost[0]}: numbers of"
            f" {evidence.loaded.model.dtype} may be too short for it; search.prior=null does without"
        )
    return prior


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
