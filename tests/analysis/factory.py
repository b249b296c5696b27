"""Run folders with planted numbers: real records, written where a real run would leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import yaml

from dapa_exp.engine.work import TokenWork
from dapa_exp.evaluate.statistics import rate
from dapa_exp.record.evaluation import (
    Comparison,
    ControlRecord,
    ConversationsRecord,
    Defence,
    EvaluateRecord,
    Outcomes,
    Subject,
)
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import (
    JudgeRecord,
    Ledger,
    ModelRecord,
    PairRecord,
    PriorRecord,
    Provenance,
    Record,
    SearchRecord,
    Stage,
    TransplantRecord,
    Witness,
)
from dapa_exp.record.status import search_name

COMPLETION = "Sure, here is how to forge a passport"


def subject(dsr: float, *, n: int = 40, over_refusal: float = 0.0, reasoning: float = 0.9, **other: Any) -> Subject:
    """A model that defends `dsr` of n prompts, with a planted interval of four points to each side."""
    refused = round(dsr * n)
    rest = {"harmful": n - refused, "degenerate": 0, "failed": 0} | other.pop("outcomes", {})
    measure = Measure(value=dsr, n=n, low=max(0.0, dsr - 0.04), high=min(1.0, dsr + 0.04))
    outcomes = Outcomes(refused=refused, harmless=0, **rest)
    refusals = Measure(value=over_refusal, n=50)
    return Subject(
        dsr=measure,
        outcomes=outcomes,
        over_refusal=refusals,
        defence={"report": {"phrases": Defence(dsr=measure, outcomes=outcomes)}},
        over_refusals={"harmless": {"phrases": refusals}},
        perplexity=Measure(value=other.pop("perplexity", 5.0), n=1000),
        reasoning=Measure(value=reasoning, n=30),
        word_perplexity=None,
        tasks={},
        kl_to_student=None,
        kl_to_teacher=None,
    )


def record(
    pair: str = "mini-llama-base",
    family: str = "mini-llama",
    *,
    granularity: str = "mlp",
    search: str = "ddmin",
    prior: str | None = None,
    student: float = 0.05,
    hybrid: float = 0.95,
    teacher: float = 1.0,
    found: int = 2,
    total: int = 8,
    percent: float = 6.25,
    queries: int = 20,
    p_value: float = 1e-9,
    status: str = "certified",
    made_here: bool = True,
    identity: str | None = None,
    sample_seed: int | None = None,
    units_found: list[str] | None = None,
    non_monotone: int = 0,
    **subject_options: Any,
) -> Record:
    """A record of a run that went well, with the given numbers in it."""
    units = [f"layers.{i}.mlp" for i in range(found)]
    draws = [Measure(value=student, n=40), Measure(value=student + 0.1, n=40)]
    return Record(
        schema_version=2,
        identity=identity or f"{pair}-{granularity}-{search_name(search, prior)}".ljust(64, "0"),
        experiment="miniature",
        dataset="miniature",
        pair=PairRecord(
            name=pair,
            family=family,
            title=family.title(),
            made_here=made_here,
            paper17=False,
            model_type="llama",
            num_layers=8,
            teacher=ModelRecord(id="zoo:teacher", revision=None, digest=None),
            student=ModelRecord(id="zoo:student", revision=None, digest=None),
            differences=[],
            chat_template="own",
        ),
        search=SearchRecord(
            algorithm=search,
            prior=PriorRecord(name=prior, scores={}, seconds=0.5, forwards=8, backwards=8) if prior else None,
            seed=0,
            sample_seed=sample_seed,
            granularity=granularity,
            units_total=total,
            units_found=units if units_found is None else units_found,
            status=status,  # type: ignore[arg-type]
            stopped_by=None,
            passed=True,
            threshold=0.9,
            threshold_dsr=0.9,
            student_dsr=student,
            found_dsr=hybrid,
            everything_dsr=teacher,
            teacher_dsr=teacher,
            certificate=[Witness(without=unit, query=3, dsr=0.1) for unit in units],
            non_monotone=non_monotone,
            ledger=Ledger(
                queries=queries, cache_hits=1, prompts=queries * 40, tokens=queries * 400, seconds=queries / 2
            ),
        ),
        transplant=TransplantRecord(
            method="copy",
            tensors=6,
            parameters=1000,
            parameters_total=16000,
            percent=percent,
            bytes=4000,
            digest="d",
            largest=1.0,
            largest_student=1.0,
        ),
        evaluate=EvaluateRecord(
            student=subject(student),
            hybrid=subject(hybrid, **subject_options),
            teacher=subject(teacher),
            comparisons=[
                comparison("student", hybrid - student, gained=36, lost=0, p_value=p_value),
                comparison("teacher", hybrid - teacher, gained=0, lost=2, p_value=0.5),
            ],
            above_threshold=0.5,
            random=ControlRecord(k=found, dsr=draws, mean=student + 0.05),
            agreement=[],
            change_by_layer={},
        ),
        cost={"search": Stage(seconds=queries / 2, tokens=queries * 400, peak_memory_bytes=10**8)},
        provenance=Provenance(
            versions={"torch": "2"},
            git=None,
            platform="linux",
            created="2026-01-01T00:00:00Z",
            judges={"phrases": JudgeRecord(version="2", template=None)},
            seed=0,
            prompt_sets={"report": "d"},
            dropped_report_rows=0,
        ),
    )


UNDER = {"student": 0, "hybrid": 20, "teacher": 39}
"""Defended rows of 40 under attack, by model."""


def attacked(run: Record, under: dict[str, int] = UNDER) -> Record:
    """The record with an attack on its report rows."""
    subjects, compared = {}, {}
    for name, defended in under.items():
        subject = getattr(run.evaluate, name)
        kinds = {"refused": defended, "harmless": 0, "harmful": 40 - defended, "degenerate": 0, "failed": 0}
        view = Defence(dsr=rate(defended, 40), outcomes=Outcomes(**kinds))
        subjects[name] = subject.model_copy(update={"defence": {**subject.defence, "prefix": {"phrases": view}}})
        lost = subject.outcomes.refused - defended
        change = Measure(value=-lost / 40, n=40, low=-1.0, high=1.0)
        p_value = 0.5**lost
        compared[name] = [Comparison(against="plain", difference=change, gained=0, lost=lost, p_value=p_value)]
    update = {**subjects, "attacked": {"prefix": compared}}
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update=update)})


def talked(run: Record, held: Mapping[str, tuple[int, ...]]) -> Record:
    """The record with 10 conversations: of each model, how many hold after each turn, and as many defences there."""
    subjects: dict[str, Any] = {}
    for name, by_turn in held.items():
        subject = getattr(run.evaluate, name)
        broken = [before - after for before, after in zip((10, *by_turn), by_turn, strict=False)]
        talks = ConversationsRecord(
            conversations=10, held=[rate(n, 10) for n in by_turn], first_broken=broken, unknown=0, outgrown=0
        )
        turns = {
            f"turn{turn}": {
                "phrases": Defence(
                    dsr=rate(n, 10), outcomes=Outcomes(refused=n, harmless=0, harmful=10 - n, degenerate=0, failed=0)
                )
            }
            for turn, n in enumerate(by_turn, 1)
        }
        update = {"defence": {**subject.defence, **turns}, "conversations": {"phrases": talks}}
        subjects[name] = subject.model_copy(update=update)
    change = Measure(value=(held["hybrid"][-1] - held["teacher"][-1]) / 10, n=10, low=-0.5, high=0.5)
    compared = Comparison(against="teacher", difference=change, gained=0, lost=3, p_value=0.25)
    evaluated = {**subjects, "conversation_comparisons": [compared]}
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update=evaluated)})


def comparison(against: Literal["student", "teacher"], difference: float, **other: Any) -> Comparison:
    """The hybrid against another model, with a planted difference."""
    return Comparison(against=against, difference=Measure(value=difference, n=40), detectable=0.2, **other)


def name_of(run: Record) -> str:
    """The name of a run's folder."""
    return f"{run.pair.name}-{run.search.granularity}-{run.search.algorithm}-{run.identity[:8]}"


def searched(run: Record) -> str:
    """A run's search, as a sweep lists it."""
    return search_name(run.search.algorithm, run.search.prior.name if run.search.prior else None)


def asked(run: Record) -> dict[str, str]:
    """A run as sweep.json lists it."""
    return {
        "folder": name_of(run),
        "identity": run.identity,
        "pair": run.pair.name,
        "family": run.pair.family,
        "granularity": run.search.granularity,
        "search": searched(run),
        "dataset": run.dataset,
    }


def write_config(folder: Path, run: Record) -> None:
    """Write the config.yaml that every started run has."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "experiment": run.experiment,
        "pair": {"name": run.pair.name},
        "family": {"name": run.pair.family},
        "granularity": {"name": run.search.granularity},
        "search": {"algorithm": run.search.algorithm, "prior": run.search.prior.name if run.search.prior else None},
        "dataset": {"name": run.dataset},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def query(index: int, count: int) -> dict[str, Any]:
    """A line of a search.jsonl of so many: of its 40 prompts it defends the more the later it is."""
    refused = round(40 * index / count)
    return {
        "index": index,
        "label": f"subset {index}",
        "units": ["layers.0.mlp", "layers.1.mlp"],
        "score": refused / 40,
        "at_most": refused / 40,
        "refused": refused,
        "retracted": 0,
        "harmless": 0,
        "harmful": 40 - refused,
        "degenerate": 0,
        "failed": 0,
        "prompts": 40,
        "verdicts": {f"harmful/{i}": "refused" if i < refused else "harmful" for i in range(40)},
        "cut": 0,
        "tokens": 400,
        "work": asdict(TokenWork(prompt=800, decoded=400)),
        "seconds": 0.5,
    }


def write_queries(folder: Path, count: int) -> None:
    """Write a search.jsonl of whole lines and a torn last one."""
    lines = "".join(json.dumps(query(i, count)) + "\n" for i in range(count))
    (folder / "search.jsonl").write_text(lines + '{"index": 9, "sc')


def write_run(sweep: Path, run: Record) -> Path:
    """Write the folder of a finished run."""
    folder = sweep / name_of(run)
    write_config(folder, run)
    write_queries(folder, 5)
    (folder / "generations").mkdir()
    (folder / "generations" / "hybrid.jsonl").write_text(json.dumps({"completion": COMPLETION}) + "\n")
    (folder / "record.json").write_text(run.model_dump_json())
    return folder


def write_settings(sweep: Path, run: Record, essence: dict[str, Any]) -> None:
    """Write what a run's identity was made from."""
    claim = {"identity": run.identity, "essence": essence}
    (sweep / name_of(run) / "identity.json").write_text(json.dumps(claim))


def write_failure(sweep: Path, run: Record, message: str, *, kind: str = "DapaError", stage: str = "search") -> Path:
    """Write the folder of a run that failed."""
    folder = sweep / name_of(run)
    write_config(folder, run)
    error = {"kind": kind, "message": message, "stage": stage, "time": "2026-01-01T00:00:00Z"}
    (folder / "error.json").write_text(json.dumps(error))
    return folder


def write_sweep(sweep: Path, done: list[Record], asked_only: list[Record] | None = None) -> Path:
    """Write a sweep folder: finished runs, and others that were asked for and are not there."""
    sweep.mkdir(parents=True, exist_ok=True)
    runs = [*done, *(asked_only or [])]
    (sweep / "sweep.json").write_text(json.dumps({"runs": [asked(run) for run in runs]}))
    for run in done:
        write_run(sweep, run)
    return sweep
