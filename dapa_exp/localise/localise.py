"""One localisation: trace the teacher, swap the student's projections one by one, record both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel, TypeAdapter
from torch.nn import functional

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically
from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.schema import Config
from dapa_exp.config.search import Localise
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.make import load_student
from dapa_exp.engine.plain import PlainEngine, Request
from dapa_exp.evaluate.context import Asked, check_context
from dapa_exp.evaluate.statistics import mean
from dapa_exp.localise.swap import Swapper
from dapa_exp.models.load import load_model
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.models.pair_templates import check_templates
from dapa_exp.prompts.load import search_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder, open_run
from dapa_exp.record.identity import identity
from dapa_exp.record.layout import LocaliseLayout
from dapa_exp.record.localisation import Effect, LocaliseRecord, Swapped, Swapping, Traced, Tracing, read_localise
from dapa_exp.record.log import log_progress
from dapa_exp.record.measure import Measure
from dapa_exp.record.provenance import git_commit, utc_now, versions
from dapa_exp.tracing.causal import KINDS, POSITIONS, Tracer
from dapa_exp.tracing.forks import find_forks, read
from dapa_exp.zoo.enlarge import is_enlarged


@dataclass(frozen=True)
class TeacherMeasures:
    """All measurements of the teacher, so that its weights can be freed before the student is loaded."""

    answers: list[str]
    hidden: dict[str, torch.Tensor]
    """The last token's final hidden state, shape (hidden,), by prompt id."""
    log_odds: Measure
    tracing: Tracing


class _Effects(BaseModel):
    """A file with one effect for each layer."""

    effects: list[Effect]


class _Swaps(BaseModel):
    """A file with the measured swap of each projection of a layer."""

    projections: list[Swapped]


_SETTINGS, _EFFECTS, _SWAPS = TypeAdapter(Localise), TypeAdapter(_Effects), TypeAdapter(_Swaps)


def localise(config: Config, folder: Path, report: Report) -> LocaliseRecord:
    """Localise a pair's alignment on the search rows, and return the record. A finished localisation is only read.

    An interrupted localisation is resumed. Raises DapaError if the folder holds another localisation, or this one
    cannot be carried out.
    """
    if config.pair.also:
        raise DapaError("pair.also: dapa localise takes one student; localise each by itself")
    done = read_localise(folder)
    if done is not None and (done.identity, done.settings) == (identity(config), config.localise):
        return done
    torch.set_num_threads(config.runtime.threads)
    with open_run(folder, config) as run:
        report = log_progress(report)
        _claim(run)
        with run.run_stage("load"):
            pair = open_pair(config, report)
            check_templates(config, pair)
            prompts = search_prompts(config.dataset)
            answers = Asked(prompts, "search.max_new_tokens", config.search.max_new_tokens)
            check_context(config, pair, {"search": answers})
        with run.run_stage("student"):
            student_answers = _answers(run, "student", load_student(config, pair), prompts)
        with run.run_stage("teacher"):
            teacher = _teacher(run, pair, prompts, student_answers, report)
        with run.run_stage("swap"):
            swapping = _swap(run, pair, prompts, student_answers, teacher, report)
        record = LocaliseRecord(
            schema_version=1,
            identity=identity(config),
            pair=config.pair.name,
            title=config.family.title,
            made_here=config.family.made_here or is_enlarged(pair.teacher_folder, pair.student_folder),
            teacher=config.family.teacher.id,
            student=config.pair.student.id,
            num_layers=pair.num_layers,
            prompts=len(prompts),
            settings=config.localise,
            tracing=teacher.tracing,
            swapping=swapping,
            cost=run.cost(),
            versions=versions(),
            git=git_commit(),
            created=utc_now(),
        )
        write_atomically(LocaliseLayout(folder).localisation, record.model_dump_json(indent=1))
        return record


def _claim(run: RunFolder) -> None:
    """Raise DapaError if the folder holds a localisation with other settings.

    These settings are not part of the identity, so they are compared with a file in the folder.
    """
    settings = run.config.localise
    begun = run.load_or_compute(LocaliseLayout(run.path).part("settings"), _SETTINGS, lambda: settings)
    differing = [key for key, value in settings.model_dump().items() if begun.model_dump()[key] != value]
    if differing:
        raise DapaError(f"{run.path}: holds another localisation; these settings differ: {', '.join(differing)}")


def _answers(run: RunFolder, name: str, engine: PlainEngine, prompts: Sequence[Prompt]) -> list[str]:
    length = run.config.search.max_new_tokens
    store = CompletionStore(run, name, "search")
    return [answer.text for answer in store.complete(engine, name, Request(tuple(prompts), length))]


def _teacher(
    run: RunFolder,
    pair: Pair,
    prompts: Sequence[Prompt],
    student_answers: Sequence[str],
    report: Report,
) -> TeacherMeasures:
    runtime = run.config.runtime
    loaded = load_model(pair.teacher_folder, runtime, thinking=run.config.pair.thinking)
    engine = PlainEngine(loaded, runtime.batch_size)
    answers = _answers(run, "teacher", engine, prompts)
    forks = find_forks(engine.loaded, prompts, answers, student_answers)
    readings = read(engine.loaded, forks, runtime.batch_size)
    tracer = Tracer(engine.loaded, pair.model_type, pair.num_layers, forks, run.config.localise, runtime.batch_size)
    return TeacherMeasures(
        answers=answers,
        hidden={fork.prompt: state for fork, state in zip(forks, readings.hidden, strict=True)},
        log_odds=mean(readings.log_odds.tolist()),
        tracing=_trace(run, tracer, report),
    )


def _trace(run: RunFolder, tracer: Tracer, report: Report) -> Tracing:
    task, sites = f"{run.config.label}: trace", [(kind, place) for kind in KINDS for place in POSITIONS]
    clean, corrupted, total = _effects(run, "tracing", tracer.baselines)
    effects: list[Traced] = []
    for done, (kind, place) in enumerate(sites):
        report(Progress(task, done, len(sites), f"{kind}, {place}"))
        found = _effects(run, f"tracing-{kind}-{place}", partial(tracer.effects, kind, place))
        effects += [Traced(kind=kind, place=place, layer=layer, effect=effect) for layer, effect in enumerate(found)]
    report(Progress(task, len(sites), len(sites)))
    return Tracing(clean=clean, corrupted=corrupted, total=total, effects=effects)


def _effects(run: RunFolder, name: str, compute: Callable[[], Iterable[Effect]]) -> list[Effect]:
    file = LocaliseLayout(run.path).part(name)
    return run.load_or_compute(file, _EFFECTS, lambda: _Effects(effects=list(compute()))).effects


def _swap(
    run: RunFolder,
    pair: Pair,
    prompts: Sequence[Prompt],
    student_answers: Sequence[str],
    teacher: TeacherMeasures,
    report: Report,
) -> Swapping:
    task, engine = f"{run.config.label}: swap", load_student(run.config, pair)
    forks = find_forks(engine.loaded, prompts, teacher.answers, student_answers)
    swapper = Swapper(engine.loaded, pair, forks, teacher.hidden, engine.batch_size)
    found: list[Swapped] = []
    for layer in range(pair.num_layers):
        report(Progress(task, layer, pair.num_layers))
        file = LocaliseLayout(run.path).part(f"swap-{layer}")
        found += run.load_or_compute(file, _SWAPS, partial(_swapped, swapper, layer)).projections
    report(Progress(task, pair.num_layers, pair.num_layers))
    return Swapping(
        student_cosine=mean(functional.cosine_similarity(swapper.student.hidden, swapper.teacher).tolist()),
        student_log_odds=mean(swapper.student.log_odds.tolist()),
        teacher_log_odds=teacher.log_odds,
        projections=found,
    )


def _swapped(swapper: Swapper, layer: int) -> _Swaps:
    return _Swaps(projections=list(swapper.layer(layer)))
