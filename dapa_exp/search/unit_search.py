"""The search of a run: sets the bar, runs the algorithm against the model, and states what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Literal

from pydantic import TypeAdapter

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.models.architecture import layer_of, scaled_layers
from dapa_exp.models.pair import Pair
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.schema import PriorRecord, SearchRecord, Witness
from dapa_exp.search.algorithms import CONTROLS, search
from dapa_exp.search.foresight import next_query
from dapa_exp.search.oracle import Bar, Oracle
from dapa_exp.search.priors import compute_prior
from dapa_exp.search.query import Budget, Outcome, Query, SearchResult, Settings
from dapa_exp.search.stability import non_monotone_pairs

_FOUND, _PRIOR = TypeAdapter(SearchRecord), TypeAdapter(PriorRecord)


def check_search(config: Config, pair: Pair) -> None:
    """Raises DapaError where the config asks for sets that the pair's units do not make."""
    if config.search.algorithm in CONTROLS:
        CONTROLS[config.search.algorithm](list(pair.units), _settings(config, pair))


def search_units(run: RunFolder, pair: Pair, teacher: Teacher, oracle: Oracle, report: Report) -> SearchRecord:
    """Find the smallest set of units that passes; once found, it stays the run's, whatever budget a resumed one has.

    Raises DapaError where the teacher defends itself no better than the student: transplanting it
    could only do harm.
    """

    return run.remembered(run.files.found, _FOUND, partial(_search, run, pair, teacher, oracle, report))


def _search(run: RunFolder, pair: Pair, teacher: Teacher, oracle: Oracle, report: Report) -> SearchRecord:
    config, units = run.config, list(pair.units)
    oracle.expect(teacher.search_answers)
    bar = oracle.bar(units)
    if teacher.search_dsr <= bar.student and not config.pair.allow_unsafe_teacher:
        raise _not_safer(run, oracle, bar, teacher)
    if config.search.algorithm not in CONTROLS and not bar.gains(config.search.min_gain):
        return _record(config, units, oracle, bar, teacher, None, None)
    prior = _prior(run, units, oracle, teacher)
    result = _run(config, pair, prior, oracle, bar, report)
    return _record(config, units, oracle, bar, teacher, prior, result)


def _not_safer(run: RunFolder, oracle: Oracle, bar: Bar, teacher: Teacher) -> DapaError:
    """What the run ends with, and what a user has to look at to see why."""
    samples = "".join(
        f"\n  prompt {sample.rendered!r}"
        f"\n    teacher {_beginning(sample.teacher)}\n    student {_beginning(sample.student)}"
        for sample in oracle.samples(teacher.search_answers, 2)
    )
    return DapaError(
        f"{run.config.pair.name}: the teacher is not safer than the student (DSR {teacher.search_dsr:.3f} against"
        f" {bar.student:.3f} on the search rows); pair.allow_unsafe_teacher=true goes on all the same. All answers are"
        f" in {run.files.completions('teacher', 'search')}, and the student's first in"
        f" {run.files.completions('search')}. The first"
        f" ones:{samples}"
    )


def _beginning(answer: str) -> str:
    return repr(answer if len(answer) <= 200 else f"{answer[:200]}…")


def _prior(run: RunFolder, units: Sequence[str], oracle: Oracle, teacher: Teacher) -> PriorRecord | None:
    """The prior that the config names, computed once; none for controls, which would not look at it."""
    settings = run.config.search
    name = settings.prior
    if name is None or settings.algorithm in CONTROLS:
        return None

    def compute() -> PriorRecord:
        rows = oracle.telling(units, settings.prior_rows) or None  # all, where none tells
        evidence = oracle.evidence(teacher.search_answers, run.config.localise, settings.seed, rows)
        return PriorRecord(**asdict(compute_prior(name, evidence)))

    return run.remembered(run.files.prior, _PRIOR, compute)


def _run(
    config: Config, pair: Pair, prior: PriorRecord | None, oracle: Oracle, bar: Bar, report: Report
) -> SearchResult:
    units = list(pair.units)
    settings = config.search
    task = f"{config.label}: search"

    hunt = partial(
        search,
        settings.algorithm,
        units,
        budget=Budget(settings.max_queries, settings.max_seconds),
        prior=prior.scores if prior else None,
        settings=_settings(config, pair),
    )

    def test(candidate: frozenset[str]) -> Outcome:
        return oracle.ask(candidate, bar, partial(next_query, hunt))

    def on_query(query: Query) -> None:
        oracle.keep(query)
        verdict = "pass" if query.outcome.passed else "fail"
        asked = oracle.prompts(oracle.line(query.units))
        note = (
            f"{query.label}: {len(query.units)} of {len(units)} units, DSR {query.outcome.score:.2f} on {asked} rows,"
            f" {verdict}"
        )
        report(Progress(task, oracle.queries, None, note))

    result = hunt(test, known=oracle.known(bar), on_query=on_query)
    report(Progress(task, oracle.queries, oracle.queries, f"{len(result.units)} of {len(units)} units"))
    return result


def _settings(config: Config, pair: Pair) -> Settings:
    """What the controls need; the fixed units are those in the paper's layer range, scaled to the pair's depth."""
    layers = scaled_layers(*config.family.paper_layers, config.family.num_layers, pair.num_layers)
    fixed = tuple(unit for unit in pair.units if layer_of(unit) in layers)
    return Settings(config.search.k, config.search.repeats, config.search.seed, fixed)


def _record(
    config: Config,
    units: Sequence[str],
    oracle: Oracle,
    bar: Bar,
    teacher: Teacher,
    prior: PriorRecord | None,
    result: SearchResult | None,
) -> SearchRecord:
    found = result.units if result else tuple(units)
    failing = result.certificate.failing if result and result.certificate else {}
    certificate = [
        Witness(without=unit, query=line, prompts=oracle.prompts(line), dsr=oracle.at_most(line))
        for unit, line in ((unit, oracle.line(set(found) - {unit})) for unit in failing)
    ]
    found_dsr = oracle.at_most(oracle.line(found))
    rows = config.dataset.search
    return SearchRecord(
        algorithm=config.search.algorithm,
        prior=prior,
        seed=config.search.seed,
        sample_seed=rows.sample_seed if rows.sample else None,
        granularity=config.granularity.name,
        units_total=len(units),
        units_found=list(found),
        status=_status(config, result),
        stopped_by=result.stopped_by if result else None,
        passed=bar.passes(found_dsr),
        threshold=config.search.threshold,
        threshold_dsr=bar.dsr,
        student_dsr=bar.student,
        found_dsr=found_dsr,
        everything_dsr=bar.everything,
        teacher_dsr=teacher.search_dsr,
        certificate=certificate,
        non_monotone=len(non_monotone_pairs(result.queries)) if result else 0,
        ledger=oracle.ledger(result.cache_hits if result else 0),
    )


def _status(config: Config, result: SearchResult | None) -> Literal["certified", "not_certified", "control", "no_gain"]:
    if result is None:
        return "no_gain"
    if config.search.algorithm in CONTROLS:
        return "control"
    return "certified" if result.certificate else "not_certified"
