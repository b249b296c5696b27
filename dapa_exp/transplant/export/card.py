"""The model card of an exported hybrid: pair, units, method, and every measured number with its interval and n."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from dapa_exp.config.models import Model
from dapa_exp.models.hub import repository_of
from dapa_exp.models.source import source_of
from dapa_exp.record.evaluation import Subject
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import ModelRecord, Record
from dapa_exp.transplant.export.manifest import Manifest

_NOTES = {
    "certified": "each unit is needed: without any single one, the set was measured to fail",
    "not_certified": "the search stopped before it could show that each unit is needed",
    "control": "the set was given, not searched for",
    "no_gain": "transplanting every unit gained too little for a search",
}


def model_card(manifest: Manifest) -> str:
    """The README.md of an exported model."""
    record = manifest.record
    teacher, student = record.pair.teacher, record.pair.student
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(record), sort_keys=False)}---",
        f"# {student.id}, aligned by {record.transplant.percent:.2f} % of its parameters",
        f"The student `{_named(student)}` with {len(record.search.units_found)} of {record.search.units_total}"
        f" units ({record.search.granularity}) transplanted from the aligned teacher `{_named(teacher)}`. No training.",
        *_warnings(record),
        "## How it was made",
        _made(manifest),
        "## Measured",
        _measured(record),
        _compared(record),
        "## Licence",
        f"Parts of the weights are those of `{teacher.id}` or computed from them, so the teacher's licence applies"
        f" beside that of `{student.id}`.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(record: Record) -> dict[str, Any]:
    matter: dict[str, Any] = {"library_name": "transformers", "license": "other", "tags": ["dapa", "safety", "merge"]}
    models = [Model(id=model.id, revision=model.revision) for model in (record.pair.student, record.pair.teacher)]
    on_the_hub = [repository_of(model)[0] for model in models if source_of(model).remote]
    return {"base_model": on_the_hub, **matter} if on_the_hub else matter


def _warnings(record: Record) -> list[str]:
    warnings = []
    if record.pair.made_here:
        warnings.append("> **Made here**: a miniature, or taught to refuse here. No evidence about models of others.")
    if not record.search.passed:
        warnings.append("> The set of units did **not** reach what the search asked of it.")
    return warnings


def _made(manifest: Manifest) -> str:
    record = manifest.record
    search, transplant = record.search, record.transplant
    settings = "".join(f", {key} {value}" for key, value in manifest.transplant.items() if key != "method")
    judges = ", ".join(f"{name} {judge.version}" for name, judge in record.provenance.judges.items())
    lines = [
        f"units: {', '.join(f'`{unit}`' for unit in search.units_found)}",
        f"search: {search.algorithm}, {search.ledger.queries} queries; {search.status.replace('_', ' ')}:"
        f" {_NOTES[search.status]}",
        f"method: {transplant.method}{settings}",
        f"changed: {transplant.parameters:,} of {transplant.parameters_total:,} parameters"
        f" in {transplant.tensors} tensors",
        f"run: `{record.identity}`, dapa_exp {record.provenance.versions.get('dapa_exp', '?')}"
        f" at {record.provenance.git or 'an unknown commit'}, {record.provenance.created}",
        f"judges: {judges}; prompts: {record.dataset}",
        f"chat template: the {record.pair.chat_template if record.pair.chat_template == 'teacher' else 'student'}'s",
        *_asked(record),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _asked(record: Record) -> Iterator[str]:
    """The prompt settings beyond the chat template. Users of the model must use the same settings."""
    if record.provenance.system_prompt is not None:
        yield f"measured with the system prompt {json.dumps(record.provenance.system_prompt, ensure_ascii=False)}"
    if record.pair.thinking is not None:
        yield f"measured with enable_thinking={str(record.pair.thinking).lower()} in the chat template"


def _measured(record: Record) -> str:
    subjects = record.evaluate
    columns = {"student": subjects.student, "**this model**": subjects.hybrid, "teacher": subjects.teacher}
    cells = {name: _cells(subject) for name, subject in columns.items()}
    metrics = dict.fromkeys(metric for found in cells.values() for metric in found)
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [[metric, *(found.get(metric, "") for found in cells.values())] for metric in metrics]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n\nIn brackets: 95 % interval and n."


def _cells(subject: Subject) -> dict[str, str]:
    """Every metric of a model, as printed, by its title."""
    rates: dict[str, Measure | None] = {"defense success rate": subject.dsr, "over-refusal": subject.over_refusal}
    for rows, judges in subject.defence.items():
        rates |= {f"defense success rate, {rows}, by {judge}": of.dsr for judge, of in judges.items()}
    for rows, measures in subject.over_refusals.items():
        rates |= {f"over-refusal, {rows}, by {judge}": measure for judge, measure in measures.items()}
    rates |= {"reasoning": subject.reasoning}
    numbers = {"perplexity": subject.perplexity, "word perplexity": subject.word_perplexity, **subject.tasks}
    kinds = {"student, harmless": subject.kl_to_student, "teacher, harmful": subject.kl_to_teacher}
    for of, by_temperature in kinds.items():
        for temperature, measure in (by_temperature or {}).items():
            numbers[f"KL from the {of} requests, nats a token, temperature {temperature}"] = measure
    numbers |= {f"{name}, {key}": m for name, by_key in subject.metrics.items() for key, m in by_key.items()}
    shown = {title: _cell(measure, 100, " %") for title, measure in rates.items() if measure}
    return shown | {title: _cell(measure, 1, "") for title, measure in numbers.items() if measure}


def _compared(record: Record) -> str:
    lines = [
        f"- against the {of.against}: {100 * of.difference.value:+.1f} points; defends {of.gained} requests that the"
        f" {of.against} does not, and {of.lost} the other way round (exact McNemar p = {of.p_value:.2g})"
        for of in record.evaluate.comparisons
    ]
    random = record.evaluate.random
    if random.mean is not None:
        lines.append(f"- {random.k} units drawn at random, {len(random.dsr)} times: mean {100 * random.mean:.1f} %")
    return "Defense success rate of this model:\n\n" + "\n".join(lines)


def _cell(measure: Measure, scale: int, unit: str) -> str:
    numbers = [f"{scale * value:.4g}" for value in (measure.low, measure.high) if value is not None]
    interval = f"{'–'.join(numbers)}; " if len(numbers) == 2 else ""
    return f"{scale * measure.value:.4g}{unit} ({interval}n = {measure.n})"


def _named(model: ModelRecord) -> str:
    return f"{model.id}@{model.revision}" if model.revision else model.id
