"""Prepares a transplant method that needs to measure something before the search."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.models.architecture import Part
from dapa_exp.prompts.rows import load_rows
from dapa_exp.record.folder import RunFolder
from dapa_exp.search.attribution import neuron_attribution
from dapa_exp.search.oracle import Oracle
from dapa_exp.search.tuning import make_examples, tune
from dapa_exp.transplant.methods.contract import Method, Sources
from dapa_exp.transplant.methods.tuned import TuningSettings


def prepare_method(run: RunFolder, method: Method, oracle: Oracle, teacher: Teacher) -> None:
    """Let a method prepare itself. It finds the student in memory, and the search rows with both models' answers."""

    def attribute(axes: Mapping[Part, int]) -> dict[str, torch.Tensor]:
        evidence = oracle.evidence(teacher.search_answers, run.config.localise, run.config.search.seed)
        return neuron_attribution(evidence.loaded, evidence.pair, axes, evidence.forks, evidence.batch_size)

    def tuned(settings: TuningSettings) -> dict[str, torch.Tensor]:
        evidence = oracle.evidence(teacher.search_answers, run.config.localise, run.config.search.seed)
        harmful = zip(evidence.prompts, evidence.teacher_answers, evidence.student_answers, strict=True)
        harmless = load_rows(settings.harmless)
        examples = make_examples(
            list(harmful), list(zip(harmless, oracle.student_answers(harmless), strict=True)), settings.seed
        )
        tensors, tokens = tune(evidence.loaded, evidence.pair, examples, settings)
        run.tokens += tokens
        return tensors

    method.prepare(run.path, Sources(attribute, tuned))
