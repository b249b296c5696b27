"""Priors from the two checkpoints alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapa_exp.config.registries import PRIORS

if TYPE_CHECKING:
    from dapa_exp.search.evidence import Evidence, Scores


def difference_norm(evidence: Evidence) -> Scores:
    """How far the teacher's weights are from the student's, relative to the student's."""
    from dapa_exp.search.difference import difference_norm  # here, since a config is read without torch

    return difference_norm(evidence.pair)


def difference_cosine(evidence: Evidence) -> Scores:
    """1 − the cosine of the teacher's and the student's weights."""
    from dapa_exp.search.difference import difference_cosine

    return difference_cosine(evidence.pair)


PRIORS.register("difference_norm", difference_norm)
PRIORS.register("difference_cosine", difference_cosine)
