"""Priors that know nothing: what an informed one is compared with."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dapa_exp.config.registries import PRIORS
from dapa_exp.search.priors.gradient import attribution

if TYPE_CHECKING:
    from dapa_exp.search.evidence import Evidence, Scores


def uniform(evidence: Evidence) -> Scores:
    """Every unit matters as much as any other."""
    return dict.fromkeys(evidence.pair.units, 1.0)


def shuffled(evidence: Evidence) -> Scores:
    """The scores of attribution, dealt out to units at random."""
    scores = attribution(evidence)
    dealt = list(scores.values())
    random.Random(evidence.seed).shuffle(dealt)
    return dict(zip(scores, dealt, strict=True))


PRIORS.register("uniform", uniform)
PRIORS.register("shuffled", shuffled)
