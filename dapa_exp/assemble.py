"""Assembles a run's record from the results of its stages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dapa_exp.config.models import Model
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.evaluator import Evaluator
from dapa_exp.evaluate.verdicts import judge_record
from dapa_exp.models.checkpoint import checkpoint_digest
from dapa_exp.models.pair import Pair
from dapa_exp.models.pair_templates import template_date
from dapa_exp.models.tensors import TensorReader
from dapa_exp.record.evaluation import EvaluateRecord
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.identity import identity
from dapa_exp.record.provenance import git_commit, platform_name, utc_now, versions
from dapa_exp.record.schema import (
    DriftRecord,
    ModelRecord,
    PairRecord,
    Provenance,
    Record,
    SearchRecord,
    SetRecord,
    TransplantRecord,
)
from dapa_exp.zoo.enlarge import is_enlarged


def make_record(
    run: RunFolder,
    pair: Pair,
    evaluator: Evaluator,
    search: SearchRecord,
    transplant: TransplantRecord,
    evaluate: EvaluateRecord,
    end_tokens: Iterable[int],
) -> Record:
    """The record of a run whose stages are all done."""
    config = run.config
    return Record(
        schema_version=2,
        identity=identity(config),
        experiment=config.record.experiment,
        dataset=config.dataset.name,
        pair=PairRecord(
            name=config.pair.name,
            family=config.family.name,
            title=config.family.title,
            made_here=config.family.made_here or is_enlarged(pair.teacher_folder, pair.student_folder),
            paper17=config.pair.paper17,
            model_type=pair.model_type,
            num_layers=pair.num_layers,
            teacher=_model(config.family.teacher, pair.teacher_folder, pair.teacher),
            student=_model(config.pair.student, pair.student_folder, pair.student),
            differences=list(pair.differences),
            chat_template=pair.chat_template,
            template_date=template_date(config, pair),
            thinking=config.pair.thinking,
            drifted=DriftRecord(**drifted.model_dump()) if (drifted := config.pair.drifted) else None,
            end_tokens=sorted(end_tokens),
        ),
        search=search,
        transplant=transplant,
        evaluate=evaluate,
        cost=run.cost(),
        provenance=_provenance(config, evaluator),
    )


def _provenance(config: Config, evaluator: Evaluator) -> Provenance:
    return Provenance(
        versions=versions(),
        git=git_commit(),
        platform=platform_name(),
        created=utc_now(),
        judges={name: judge_record(judge) for name, judge in evaluator.all_judges.items()},
        seed=config.search.seed,
        prompt_sets=evaluator.prompts.digests(),
        dropped_report_rows=evaluator.prompts.dropped,
        rows={use: SetRecord(**vars(kept)) for use, kept in evaluator.prompts.kept.items()},
        similar_at=config.dataset.similar_at,
        system_prompt=config.dataset.system_prompt,
    )


def _model(model: Model, folder: Path, tensors: TensorReader) -> ModelRecord:
    return ModelRecord(id=model.id, revision=model.revision, digest=checkpoint_digest(folder, tensors))
