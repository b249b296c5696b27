"""Computes priors, and counts their cost.

A prior maps every unit to its importance; a higher number is more important. It is a hint: a search may follow its
order, but its answer must not depend on the prior being right.
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
from dapa_exp.config.search import Localise
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.schema import PriorRecord
from dapa_exp.tracing.forks import Fork, find_forks
from dapa_exp.transplant.hybrid import Hybrid

Scores = dict[str, float]


@dataclass(frozen=True)
class Evidence:
    """Everything from which a prior may be computed: both checkpoints, the hybrid, and both models' answers."""

    pair: Pair
    hybrid: Hybrid
    loaded: LoadedModel
    """The model that the hybrid changes."""
    prompts: Sequence[Prompt]
    teacher_answers: Sequence[str]
    student_answers: Sequence[str]
    batch_size: int
    tracing: Localise
    seed: int

    @cached_property
    def forks(self) -> list[Fork]:
        """The first tokens at which the two models' answers differ. They define what refusing means for this pair."""
        return find_forks(self.loaded, self.prompts, self.teacher_answers, self.student_answers)


@dataclass
class _Passes:
    """The number of prompts run forward, without recomputations in a backward pass, and backward."""

    forwards: int = 0
    backwards: int = 0


def compute_prior(name: str, evidence: Evidence) -> PriorRecord:
    """Compute a prior by its name, and count its cost. Afterwards, no unit is transplanted.

    Raises DapaError if there is no prior of that name, or if a score is not finite.
    """
    make = PRIORS.get(name)
    passes, started = _Passes(), time.monotonic()
    with _counted(evidence.loaded.model, passes):
        scores = make(evidence)
    seconds = time.monotonic() - started
    evidence.hybrid.set_units(())
    if lost := [unit for unit, score in scores.items() if not isfinite(score)]:
        raise DapaError(
            f"search.prior={name}: the score of {len(lost)} units, such as {lost[0]}, is NaN or infinite. The range of"
            f" {evidence.loaded.model.dtype} may be too small for this prior; search.prior=null uses none"
        )
    return PriorRecord(name=name, scores=scores, seconds=seconds, **vars(passes))


@contextmanager
def _counted(model: nn.Module, passes: _Passes) -> Iterator[None]:
    """Within the block, count the rows that go through the model, forward and backward."""

    def forward(module: nn.Module, inputs: Any, output: Any) -> None:
        passes.forwards += len(output.logits)
        if output.logits.requires_grad:
            output.logits.register_hook(backward)

    def backward(gradient: Any) -> None:
        passes.backwards += len(gradient)

    handle = model.register_forward_hook(forward)
    try:
        yield
    finally:
        handle.remove()
