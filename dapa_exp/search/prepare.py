"""Prepares a transplant method that needs to measure something before the search."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.models.architecture import Part
from dapa_exp.record.folder import RunFolder
from dapa_exp.search.attribution import neuron_attribution
from dapa_exp.search.oracle import Oracle
from dapa_exp.transplant.methods.contract import Method


def prepare_method(run: RunFolder, method: Method, oracle: Oracle, teacher: Teacher) -> None:
    """Let a method prepare itself. It may ask for attributions, which are gradients on the search rows."""

    def attribution(axes: Mapping[Part, int]) -> dict[str, torch.Tensor]:
        evidence = oracle.evidence(teacher.search_answers, run.config.localise, run.config.search.seed)
        return neuron_attribution(evidence.loaded, evidence.pair, axes, evidence.forks, evidence.batch_size)

    method.prepare(run.path, attribution)
