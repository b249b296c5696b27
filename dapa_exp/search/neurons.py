"""Scores of single neurons, for transplants that choose them by attribution: found out once, before the search."""

from __future__ import annotations

import torch

from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.evaluate.references import remembered_tensors
from dapa_exp.record.folder import RunFolder
from dapa_exp.search.oracle import Oracle
from dapa_exp.search.priors.attribution import neuron_attribution
from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.neurons import SwapNeurons


def score_neurons(run: RunFolder, method: Method, oracle: Oracle, teacher: Teacher) -> None:
    """Give a method that chooses neurons by attribution its scores; nothing to do for any other."""
    if not isinstance(method, SwapNeurons) or method.by != "attribution":
        return
    axes = method.axes

    def compute() -> dict[str, torch.Tensor]:
        evidence = oracle.evidence(teacher.search_answers, run.config.localise, run.config.search.seed)
        return neuron_attribution(evidence.loaded, evidence.pair, axes, evidence.forks, evidence.batch_size)

    method.scores = remembered_tensors(run.files.neurons, compute)
