"""The search of a run: it measures the bar, runs the algorithm with the model, and makes the record of the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from pydantic import TypeAdapter

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.registries import ALGORITHMS
from dapa_exp.config.schema import Config
from dapa_exp.evaluate.evaluator import Teacher
from dapa_exp.models.architecture import layer_of, scaled_layers
from dapa_exp.models.checkpoint import checkpoint_digest
from dapa_exp.models.pair import Pair, unit_parameters
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.given import given_units, within_units
from dapa_exp.record.schema import ModelRecord, PriorRecord, SearchRecord, ServedStudent, Witness
from dapa_exp.search.algorithm import Control
from dapa_exp.search.evidence import compute_prior
from dapa_exp.search.joint import Joint, total
from dapa_exp.search.oracle import Oracle
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
    """The units that the search chooses from: all units, or the units inside the set of another run.

    Raises DapaError if there is none.
    """
    outer = within_units(config.search)
    found = [unit for unit in pair.units if outer is None or any(f"{unit}.".startswith(f"{of}.") for of in outer)]
    if not found:
        raise DapaError(f"search.within={config.search.within}: no unit of this run lies within what that run found")
    return found


def search_units(
    run: RunFolder,
    pair: Pair,
    teacher: Teacher,
    oracle: Oracle,
    report: Report,
    others: Callable[[], list[Oracle]] = list,
) -> SearchRecord:
    """Find the smallest set of units that passes. A finished search is only read, even if the budget has changed.

    `others` loads the further students that the set is to serve. Raises DapaError if the teacher's DSR is not higher
    than a student's: its units could only do harm.
    """
    return run.load_or_compute(run.files.found, _FOUND, partial(_search, run, pair, teacher, oracle, report, others))


def _search(
    run: RunFolder, pair: Pair, teacher: Teacher, oracle: Oracle, report: Report, others: Callable[[], list[Oracle]]
) -> SearchRecord:
    config, joint = run.config, Joint([oracle, *others()])
    for one, name in zip(joint.oracles, (each.pair.name for each in config.by_student()), strict=True):
        one.suggest_teacher_answers(teacher.search_answers)
        if teacher.search_dsr <= one.bar.student and not config.pair.allow_unsafe_teacher:
            raise _not_safer(run, name, one, teacher)
    gains = all(one.bar.gains(config.search.min_gain) for one in joint.oracles)
    if not _is_control(config) and not gains:
        return _record(config, pair, joint, teacher, None, None)
    prior = _prior(run, oracle, teacher)
    result = _run(config, pair, prior, joint, report)
    return _record(config, pair, joint, teacher, prior, result)


def _not_safer(run: RunFolder, name: str, oracle: Oracle, teacher: Teacher) -> DapaError:
    """The error for a teacher that is not safer than its student, with answers that show why."""
    samples = "".join(
        f"\n  prompt {sample.rendered!r}"
        f"\n    teacher {_beginning(sample.teacher)}\n    student {_beginning(sample.student)}"
        for sample in oracle.samples(teacher.search_answers, 2)
    )
    return DapaError(
        f"{name}: the teacher is not safer than the student: its DSR on the search rows is {teacher.search_dsr:.3f},"
        f" the student's {oracle.bar.student:.3f}. Have the two been swapped? Else take another teacher, or go on"
        " all the same with pair.allow_unsafe_teacher=true\n"
        f"  the teacher's answers: {run.files.completions('teacher', 'search')}\n"
        f"  the student's, in its first lines: {oracle.answers_file}{samples}"
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
        return compute_prior(name, evidence)

    return run.load_or_compute(run.files.prior, _PRIOR, compute)


def _run(config: Config, pair: Pair, prior: PriorRecord | None, joint: Joint, report: Report) -> SearchResult:
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
        verdict = "passes" if query.outcome.passed else "fails"
        note = (
            f"{len(query.units)} of {len(units)} units, DSR {query.outcome.score:.2f} on"
            f" {joint.prompts(frozenset(query.units))} rows: {verdict} ({query.label})"
        )
        report(Progress(task, joint.queries, None, note))

    result = search(
        settings.algorithm,
        units,
        joint.ask,
        budget=Budget(settings.max_queries, settings.max_seconds and settings.max_seconds - joint.ledger(0).seconds),
        known=joint.known(),
        on_query=on_query,
        prior=prior.scores if prior else None,
        weights=unit_parameters(pair) if settings.weight == "parameters" else None,
        settings=_settings(config, pair, prior),
    )
    report(Progress(task, joint.queries, joint.queries, f"the set has {len(result.units)} of {len(units)} units"))
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
    pair: Pair,
    joint: Joint,
    teacher: Teacher,
    prior: PriorRecord | None,
    result: SearchResult | None,
) -> SearchRecord:
    own, units = joint.oracles[0], list(pair.units)
    found = result.units if result else tuple(units)
    failing = result.certificate.failing if result and result.certificate else {}
    dsrs = [one.at_most(one.line(found)) for one in joint.oracles]
    rows = config.dataset.search
    return SearchRecord(
        algorithm=config.search.algorithm,
        prior=prior,
        seed=config.search.seed,
        sample_seed=rows.sample_seed if rows.sample else None,
        granularity=config.granularity.name,
        longer_rows=len(own.longer_rows) if config.search.longer_tokens else None,
        units_total=len(units),
        units_found=list(found),
        status=_status(config, result),
        stopped_by=result.stopped_by if result else None,
        passed=all(one.bar.passes(dsr) for one, dsr in zip(joint.oracles, dsrs, strict=True)),
        threshold=config.search.threshold,
        threshold_dsr=own.bar.dsr,
        student_dsr=own.bar.student,
        found_dsr=dsrs[0],
        everything_dsr=own.bar.everything,
        teacher_dsr=teacher.search_dsr,
        certificate=[_witness(config, joint, frozenset(found), unit) for unit in failing],
        non_monotone=len(non_monotone_pairs(result.queries)) if result else 0,
        ledger=joint.ledger(result.cache_hits if result else 0),
        students=_served(config, joint, dsrs) if config.pair.also else [],
    )


def _witness(config: Config, joint: Joint, found: frozenset[str], unit: str) -> Witness:
    place = joint.failing(found - {unit})
    oracle = joint.oracles[place]
    line = oracle.line(found - {unit})
    student = config.pair.students[place].id if place else None
    return Witness(without=unit, student=student, query=line, prompts=oracle.prompts(line), dsr=oracle.at_most(line))


def _served(config: Config, joint: Joint, dsrs: Sequence[float]) -> list[ServedStudent]:
    return [
        ServedStudent(
            model=ModelRecord(
                id=model.id,
                revision=model.revision,
                digest=checkpoint_digest(oracle.pair.student_folder, oracle.pair.student),
            ),
            student_dsr=oracle.bar.student,
            threshold_dsr=oracle.bar.dsr,
            found_dsr=dsr,
            everything_dsr=oracle.bar.everything,
            ledger=total([oracle]),
        )
        for model, oracle, dsr in zip(config.pair.students, joint.oracles, dsrs, strict=True)
    ]


def _status(config: Config, result: SearchResult | None) -> Literal["certified", "not_certified", "control", "no_gain"]:
    if result is None:
        return "no_gain"
    if _is_control(config):
        return "control"
    return "certified" if result.certificate else "not_certified"
