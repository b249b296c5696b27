"""The page's data about single runs, as compact JSON. It holds answers only with `dapa report --answers`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from math import isfinite
from typing import Any

import pandas as pd

from analysis.entries import SUBJECTS, with_interval
from analysis.frame import RUN, Run, first_line
from analysis.measures import runs_of
from dapa_exp.evaluate.verdicts import read_verdicts
from dapa_exp.record.evaluation import Subject
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record

SAMPLES = 5
"""Answers of each model that the page holds of a run, where answers are asked for."""
LONGEST_ANSWER = 600
DIGITS = 5
"""Significant digits of numbers in the page. The records have all of them."""
NOT_MEASURED = "not measured"
NOT_COMPARED = "not compared"
NO_KL = "not measured, or the vocabularies differ"

KL = {
    "kl_to_student": "KL from the student, harmless requests",
    "kl_to_teacher": "KL from the teacher, harmful requests",
}

Json = Any


def runs_json(frame: pd.DataFrame, runs: Sequence[Run], answers: bool) -> str:
    """All runs as JSON that can stand in a script element: no text in it can end the element."""
    settings = runs_of(frame).drop(columns=RUN)
    shared = [key for key in settings if settings[key].nunique() == 1]
    varying = [key for key in settings if key not in shared]
    values = {key: list(dict.fromkeys(settings[key])) for key in varying}
    places = {key: {value: i for i, value in enumerate(found)} for key, found in values.items()}
    provenances = _Numbered()
    body = {
        "subjects": SUBJECTS,
        "shared": {key: settings[key].iloc[0] for key in shared},
        "varying": values,
        "runs": [
            {**_run(run, provenances, answers), "settings": [places[key][settings[key].iloc[i]] for key in varying]}
            for i, run in enumerate(runs)
        ],
        "provenances": provenances.things,
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class _Numbered:
    """Things by their number: equal ones are held once."""

    def __init__(self) -> None:
        self.things: list[Json] = []
        self._numbers: dict[str, int] = {}

    def number(self, thing: Json) -> int:
        key = json.dumps(thing, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.things)
            self.things.append(thing)
        return self._numbers[key]


def _run(run: Run, provenances: _Numbered, answers: bool) -> Json:
    known = run.status
    head = {
        "identity": known.identity,
        "folder": known.folder,
        "sweep": run.sweep,
        "pair": known.pair or known.folder,
        "family": known.family,
        "granularity": known.granularity,
        "search": known.search,
        "dataset": known.dataset,
        "state": known.state,
        "reason": first_line(known.reason or ""),
    }
    if known.record is None:
        return head
    sampled = {"answers": _answers(run, known.record)} if answers else {}
    return {**head, **_found(known.record), **_measured(known.record), **_spent(known.record, provenances), **sampled}


def _found(record: Record) -> Json:
    search, transplant, pair = record.search, record.transplant, record.pair
    return {
        "title": pair.title,
        "teacher": pair.teacher.id,
        "student": pair.student.id,
        "made_here": pair.made_here,
        "model_type": pair.model_type,
        "layers": pair.num_layers,
        "units": search.units_found,
        "units_total": search.units_total,
        "status": search.status,
        "stopped_by": search.stopped_by,
        "bar": _short(search.threshold_dsr),
        "search_dsr": [_short(dsr) for dsr in (search.student_dsr, search.found_dsr, search.everything_dsr)],
        "certificate": [
            [w.without, f"{w.query} of {w.student}" if w.student else w.query, w.prompts, _short(w.dsr)]
            for w in search.certificate
        ],
        "ledger": {name: _short(value) for name, value in search.ledger.model_dump(exclude={"work"}).items()},
        "prior": search.prior and [search.prior.name, _short(search.prior.seconds)],
        "method": transplant.method,
        "tensors": transplant.tensors,
        "parameters": [transplant.parameters, transplant.differing, transplant.parameters_total],
        "percent": _short(transplant.percent),
    }


def _measured(record: Record) -> Json:
    evaluate = record.evaluate
    subjects = [evaluate.student, evaluate.hybrid, evaluate.teacher]
    outcomes = [subject.outcomes.model_dump() for subject in subjects]
    random = evaluate.random
    return {
        "metrics": list(_metrics(subjects)),
        "outcomes": [[name, *(counts[name] for counts in outcomes)] for name in outcomes[0]],
        "changes": [
            [metric, change.against, _cell(change.difference), _short(change.p_value)]
            for metric, changes in (
                ("DSR", [with_interval(comparison, evaluate) for comparison in evaluate.comparisons]),
                ("over-refusal", evaluate.over_refusal_comparisons),
                ("perplexity", evaluate.perplexity_comparisons),
            )
            for change in changes
        ],
        "random": [random.k, _short(random.mean), len(random.dsr), _short(random.p_value)],
        "by_layer": [_short(layer.hidden.value, 3) for layer in evaluate.change_by_layer.get("harmful", [])],
    }


def _metrics(subjects: Sequence[Subject]) -> Iterator[Json]:
    """Each metric with a cell for each model: the numbers, or why there are none."""
    yield from _by_set("DSR", [{s: {j: d.dsr for j, d in js.items()} for s, js in m.defence.items()} for m in subjects])
    refusals = [m.over_refusals for m in subjects]
    reasons = [m.no_over_refusal for m in subjects]
    if any(refusals):
        yield from _by_set("over-refusal", refusals, reasons)
    else:
        yield ["over-refusal", *([NOT_MEASURED] * len(subjects))]
    for name in ("perplexity", "word_perplexity", "reasoning"):
        yield [name.replace("_", " "), *(_cell(getattr(subject, name)) or NOT_MEASURED for subject in subjects)]
    for task in dict.fromkeys(task for subject in subjects for task in subject.tasks):
        yield [task, *(_cell(subject.tasks.get(task)) or NOT_MEASURED for subject in subjects)]
    for name in dict.fromkeys(name for subject in subjects for name in subject.metrics):
        for key in dict.fromkeys(key for subject in subjects for key in subject.metrics.get(name, {})):
            yield [f"{name} {key}", *(_cell(m.metrics.get(name, {}).get(key)) or NOT_MEASURED for m in subjects)]
    for name, label in KL.items():
        found = [getattr(subject, name) or {} for subject in subjects]
        for temperature in dict.fromkeys(key for values in found for key in values):
            cells = [_cell(values.get(temperature)) or NOT_COMPARED for values in found]
            yield [f"{label}, T = {temperature}", *cells]
        if not any(found):
            yield [label, *([NO_KL] * len(subjects))]


def _by_set(name: str, found: Sequence[Any], reasons: Sequence[dict[str, str]] = ()) -> Iterator[Json]:
    for which in dict.fromkeys(rows for sets in found for rows in sets):
        for judge in dict.fromkeys(judge for sets in found for judge in sets.get(which, {})):
            cells = [_cell(sets.get(which, {}).get(judge)) for sets in found]
            whys = [why.get(judge, NOT_MEASURED) for why in reasons] or [NOT_MEASURED] * len(cells)
            yield [f"{name}, {which}, by {judge}", *(cell or why for cell, why in zip(cells, whys, strict=True))]


def _spent(record: Record, provenances: _Numbered) -> Json:
    provenance = record.provenance
    about = provenance.model_dump(include={"versions", "git", "platform", "seed"})
    about["judges"] = {name: judge.version for name, judge in provenance.judges.items()}
    return {
        "cost": [[stage, _short(c.seconds), c.tokens, c.peak_memory_bytes] for stage, c in record.cost.items()],
        "created": provenance.created,
        "provenance": provenances.number(about),
    }


def _answers(run: Run, record: Record) -> Json:
    """The first answers of each model to report prompts, with the verdict of the run's own judge."""
    files = RunLayout(run.path)
    judge = next(iter(record.evaluate.hybrid.defence.get("report", {})), "")
    found: dict[str, list[Json]] = {}
    for place, subject in enumerate(SUBJECTS):
        file = files.verdicts(subject, "report", judge)
        verdicts = list(read_verdicts(file).verdicts) if file.is_file() else []
        for i, line in enumerate(islice(files.read_completions(subject, "report"), SAMPLES)):
            verdict = str(verdicts[i].value) if i < len(verdicts) else ""
            given = found.setdefault(line["prompt"], [None] * len(SUBJECTS))
            given[place] = [_cut(line["completion"]), verdict]
    return [[prompt, *given] for prompt, given in found.items()]


def _cut(answer: str) -> str:
    return answer if len(answer) <= LONGEST_ANSWER else f"{answer[:LONGEST_ANSWER]}…"


def _cell(measure: Measure | None) -> Json:
    if measure is None:
        return None
    return [_short(measure.value), _short(measure.low), _short(measure.high), measure.n]


def _short(value: float | None, digits: int = DIGITS) -> float | None:
    """A number with so many significant digits; None if there is none."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{digits}g}") if isfinite(value) else None
