"""The prior from gradients: weight-space attribution patching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapa_exp.config.registries import PRIORS

if TYPE_CHECKING:
    from dapa_exp.search.evidence import Evidence, Scores


def attribution(evidence: Evidence) -> Scores:
    """What each unit's transplant adds to the refusal log-odds, to first order: see `dapa_exp.search.attribution`."""
    from dapa_exp.search.attribution import attribution  # here, since a config is read without torch

    return attribution(evidence.hybrid, evidence.loaded, evidence.pair, evidence.forks, evidence.batch_size)


PRIORS.register("attribution", attribution)
