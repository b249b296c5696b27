"""The search of a run: it measures the bar, runs the algorithm with the model, and makes the record of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Literal

from pydantic import TypeAdapter

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.registries import ALGORITHMS
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.models.architecture import layer_of, scaled_layers
from dapa_exp.models.pair import Pair, unit_parameters
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.given import given_units, within_units
from dapa_exp.record.schema import PriorRecord, SearchRecord, Witness
from dapa_exp.search.algorithm import Control
from dapa_exp.search.evidence import compute_prior
from dapa_exp.search.oracle import Bar, Oracle
from dapa_exp.search.query import Budget, Query, SearchResult, Settings
from dapa_exp.search.solve import search
from dapa_exp.search.stability import non_monotone_pairs

_FOUND, _PRIOR = TypeAdapter(SearchRecord), TypeAdapter(PriorRecord)


def check_search(config: Config, pair: Pair) -> None:
    """Raises DapaError if a control asks for units that the pair does not have."""
    units = searched_units(config, pair)
    algorithm = ALGORITHMS.get(config.search.algorithm)
    if isinstance(algorithm, Control) and not algorithm.by_prior:
        algorithm.candidates(units, _settings(config, pair, None))


def searched_units(config: Config, pair: Pair) -> list[str]:
    """The units that the search chooses from: all, or those within the units that another run found.

    Raises DapaError where there is none.
    """
    outer = within_units(config.search)
    found = [unit for unit in pair.units if outer is None or any(f"{unit}.".startswith(f"{of}.") for of in outer)]
    if not found:
        raise DapaError(f"search.within={config.search.within}: no unit of this run lies within what that run found")
    return found


def search_units(run: RunFolder, pair: Pair, teacher: Teacher, oracle: Oracle, report: Report) -> SearchRecord:
    """Find the smallest set of units that passes. A finished search is only read, even if the budget has changed.

    Raises DapaError if the teacher's DSR is not higher than the student's: its units could only do harm.
    """
    return run.load_or_compute(run.files.found, _FOUND, partial(_search, run, pair, teacher, oracle, report))


def _search(run: RunFolder, pair: Pair, teacher: Teacher, oracle: Oracle, report: Report) -> SearchRecord:
    config, units = run.config, list(pair.units)
    oracle.suggest_teacher_answers(teacher.search_answers)
    bar = oracle.bar
    if teacher.search_dsr <= bar.student and not config.pair.allow_unsafe_teacher:
        raise _not_safer(run, oracle, bar, teacher)
    if not _is_control(config) and not bar.gains(config.search.min_gain):
        return _record(config, units, oracle, bar, teacher, None, None)
    prior = _prior(run, oracle, teacher)
    result = _run(config, pair, prior, oracle, report)
    return _record(config, units, oracle, bar, teacher, prior, result)


def _not_safer(run: RunFolder, oracle: Oracle, bar: Bar, teacher: Teacher) -> DapaError:
    """The error for a teacher that is not safer than its student, with answers that show why."""
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


def _prior(run: RunFolder, oracle: Oracle, teacher: Teacher) -> PriorRecord | None:
    """The prior that the config names, computed once. None for controls that use no prior."""
    settings = run.config.search
    name, algorithm = settings.prior, ALGORITHMS.get(settings.algorithm)
    if name is None or (isinstance(algorithm, Control) and not algorithm.by_prior):
        return None

    def compute() -> PriorRecord:
        rows = oracle.decisive_rows(settings.prior_rows) or None  # None: all rows
        evidence = oracle.evidence(teacher.search_answers, run.config.localise, settings.seed, rows)
        return PriorRecord(**asdict(compute_prior(name, evidence)))

    return run.load_or_compute(run.files.prior, _PRIOR, compute)


def _run(config: Config, pair: Pair, prior: PriorRecord | None, oracle: Oracle, report: Report) -> SearchResult:
    units = searched_units(config, pair)
    settings = config.search
    task = f"{config.label}: search"

    if settings.algorithm == "fixed" and config.family.paper_layers and config.family.num_layers != pair.num_layers:
        first, last = config.family.paper_layers
        ours = paper_layers(config, pair)
        note = (
            f"family.paper_layers {first}-{last} of {config.family.num_layers} layers are {ours[0]}-{ours[-1]} of this"
            f" pair's {pair.num_layers}; search=given takes layers of your own"
        )
        report(Progress(f"{config.pair.name}: search=fixed", 1, 1, note))

    def on_query(query: Query) -> None:
        verdict = "pass" if query.outcome.passed else "fail"
        asked = oracle.prompts(oracle.line(query.units))
        note = (
            f"{query.label}: {len(query.units)} of {len(units)} units, DSR {query.outcome.score:.2f} on {asked} rows,"
            f" {verdict}"
        )
        report(Progress(task, oracle.queries, None, note))

    result = search(
        settings.algorithm,
        units,
        oracle.ask,
        budget=Budget(settings.max_queries, settings.max_seconds and settings.max_seconds - oracle.ledger(0).seconds),
        known=oracle.known(),
        on_query=on_query,
        prior=prior.scores if prior else None,
        weights=unit_parameters(pair) if settings.weight == "parameters" else None,
        settings=_settings(config, pair, prior),
    )
    report(Progress(task, oracle.queries, oracle.queries, f"{len(result.units)} of {len(units)} units"))
    return result


def _is_control(config: Config) -> bool:
    return isinstance(ALGORITHMS.get(config.search.algorithm), Control)


def _settings(config: Config, pair: Pair, prior: PriorRecord | None) -> Settings:
    """The settings of controls. `given` takes units from the config or another run, `fixed` from the paper's range."""
    search = config.search
    if search.algorithm == "given":
        units = given_units(search)
        named_by = "search.units" if search.from_run is None else f"search.from={search.from_run}"
    elif search.algorithm == "fixed":
        layers = paper_layers(config, pair)
        units = tuple(unit for unit in pair.units if layer_of(unit) in layers)
        named_by = "family.paper_layers"
    else:
        units, named_by = (), ""
    return Settings(
        k=search.k,
        repeats=search.repeats,
        seed=search.seed,
        units=units,
        units_from=named_by,
        prior=prior.scores if prior else {},
        parameters=unit_parameters(pair),
        room=int((search.share or 0.0) * pair.student.parameters),
    )


def paper_layers(config: Config, pair: Pair) -> range:
    """The paper's layer range, scaled to the pair's number of layers."""
    family = config.family
    assert family.paper_layers is not None  # checked with the config
    assert family.num_layers is not None
    return scaled_layers(*family.paper_layers, family.num_layers, pair.num_layers)


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
        longer_rows=len(oracle.longer_rows) if config.search.longer_tokens else None,
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
    if _is_control(config):
        return "control"
    return "certified" if result.certificate else "not_certified"
