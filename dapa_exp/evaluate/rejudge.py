"""`dapa judge`: scores the stored answers of a finished run with another judge. No model of the pair is loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dapa_exp.base.claim import owners
from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import write_atomically
from dapa_exp.base.progress import Progress, Report
from dapa_exp.evaluate.conclusion import JudgedSets, ModelName, Verdicts, agreement_by_model, by_judge, verdicts_of
from dapa_exp.evaluate.defence import (
    agreement,
    defence,
    early_differences,
    missing,
    over_refusal,
    why_no_over_refusal,
)
from dapa_exp.evaluate.replay import Exchange, conversations_record, judge_rows, judged_at, replay, states_by_judge
from dapa_exp.evaluate.verdicts import Judged, judge_record, read_verdicts
from dapa_exp.judges import Judge, Verdict
from dapa_exp.prompts.conversations import Conversation, turn_of, turn_set
from dapa_exp.prompts.load import PromptSets, load_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.evaluation import Subject
from dapa_exp.record.folder import IN_OTHER_HANDS, claim_folder
from dapa_exp.record.layout import RunLayout
from dapa_exp.record.schema import JudgeRecord, Record

MODELS: tuple[ModelName, ...] = ("student", "hybrid", "teacher")
NOT_JUDGED = ("search", "text", "questions", "skill")
"""Prompt sets without answers for a judge of a finished run."""
CHUNK = 32
"""Number of answers between two progress reports. A judge that fails on all of the first ones is given up."""


class NoVerdictError(DapaError):
    """The judge gives no verdicts. The input is right, so the exit code is not that of wrong input."""


class StoredAnswer(NamedTuple):
    """An answer on disk."""

    text: str


class Rejudged(NamedTuple):
    """The record with the judge's results, and the numbers of failed verdicts and of all verdicts."""

    record: Record
    failed: int
    asked: int


def rejudge(folder: Path, judge: Judge, name: str, report: Report) -> Rejudged:
    """Score the stored answers of a finished run with a judge, and add it to the run's record under a name.

    The judge's own earlier verdicts under that name are replaced. Raises DapaError, and writes nothing, if the run is
    not finished or another process works on it, if an answer is missing, if the prompts have changed, if the name
    belongs to another judge or to a judge of the run itself, or if the judge does not work.
    """
    if not name.isidentifier():
        raise DapaError(f"as={name}: names files and columns, so it must be of letters, digits and underscores")
    files = RunLayout(folder)
    config, record = files.read_config(), files.read_record()
    (owner,) = owners([files.claim])
    if owner:
        raise DapaError(f"{folder}: {IN_OTHER_HANDS}: {owner}")
    if name in (config.judge.name, *config.judges):
        raise DapaError(f"{folder}: the run itself was judged by '{name}'; choose another name with as=NAME")
    _refuse_another_judge(folder, record, name, judge_record(judge))
    sets = load_prompts(config.dataset)
    _refuse_other_prompts(folder, record, sets)
    subjects = {model: getattr(record.evaluate, model) for model in MODELS}
    exchanges = {model: _exchanges(files, model, sets) for model in MODELS}
    asked = {model: _asked(files, model, subject, sets, exchanges[model]) for model, subject in subjects.items()}
    total = sum(len(prompts) for of_model in asked.values() for prompts in of_model.values())
    progress = _Progress(report, f"{folder.name}: {name}", total)
    found: dict[Path, Judged] = {}
    for model, of_model in asked.items():
        for rows, prompts in of_model.items():
            answers = _answers(files, model, rows, prompts)
            found[files.verdicts(model, rows, name)] = _score(judge, rows, prompts, answers, progress)
    with claim_folder(folder):
        ours = judge_record(judge)  # now it is known which model a server has answered with
        record = files.read_record()  # another `dapa judge` may have changed it meanwhile
        _refuse_another_judge(folder, record, name, ours)
        for file, judged in found.items():
            write_atomically(file, judged.model_dump_json(indent=1))
        return Rejudged(_write(files, record, name, ours, sets.conversations, exchanges), progress.failed, total)


def _refuse_another_judge(folder: Path, record: Record, name: str, ours: JudgeRecord) -> None:
    there = record.provenance.judges.get(name, ours)
    if (there.version, there.template) != (ours.version, ours.template):
        raise DapaError(
            f"{folder}: '{name}' is another judge's (version {there.version}, this one {ours.version});"
            " choose another name with as=NAME"
        )


def _refuse_other_prompts(folder: Path, record: Record, sets: PromptSets) -> None:
    """Raises DapaError if prompts have changed since the run. Rows without ids are known by their numbers only."""
    now = sets.digests()
    judged = {use: digest for use, digest in record.provenance.prompt_sets.items() if use not in NOT_JUDGED}
    if changed := [f"dataset.{use}" for use, digest in judged.items() if now.get(use) != digest]:
        raise DapaError(f"{folder}: these prompt sets have changed since the run: {', '.join(changed)}")


def _exchanges(files: RunLayout, model: str, sets: PromptSets) -> list[list[Exchange]]:
    """The requests and answers of the conversations, by turn. A conversation ends where no answer is on disk."""

    def answer(turn: int, prompts: list[Prompt]) -> list[StoredAnswer | None]:
        lines = files.read_completions(model, turn_set(turn))
        kept = {line["prompt"]: StoredAnswer(line["completion"]) for line in lines}
        return [kept.get(prompt.id) for prompt in prompts]

    return replay(sets.conversations, answer)


def _asked(
    files: RunLayout, model: str, subject: Subject, sets: PromptSets, exchanges: list[list[Exchange]]
) -> dict[str, list[Prompt]]:
    """The prompts that the run's own judge judged, by set. Raises DapaError if answers in conversations are lost."""
    found = {**sets.harmful, "harmless": sets.harmless, **sets.more_harmless}
    for rows, defences in subject.defence.items():
        if turn := turn_of(rows):
            found[rows] = [exchange.prompt for exchange in judged_at(exchanges, turn)]
            judged = sum(next(iter(defences.values())).outcomes.model_dump().values())
            if judged != len(found[rows]):
                raise DapaError(
                    f"{files.completions(model, rows)}: leads to {len(found[rows])} answers, and {judged} were judged:"
                    " were some deleted?"
                )
    return {rows: found[rows] for rows in (*subject.defence, *subject.over_refusals)}


def _write(
    files: RunLayout,
    record: Record,
    name: str,
    judge: JudgeRecord,
    conversations: Sequence[Conversation],
    exchanges: Mapping[ModelName, list[list[Exchange]]],
) -> Record:
    """The record with a judge whose verdicts are on disk. It replaces the old record."""
    judges = {**record.provenance.judges, name: judge}
    subjects = {model: getattr(record.evaluate, model) for model in MODELS}
    kept = {model: _kept(files, model, subjects[model], list(judges)) for model in MODELS}
    verdicts: dict[ModelName, Verdicts] = {model: verdicts_of(kept[model]) for model in MODELS}
    harmful = list(record.evaluate.student.defence)
    changed: dict[str, Any] = {}
    for model, subject in subjects.items():
        states = states_by_judge(conversations, exchanges[model], verdicts[model])
        conversed = {each: conversations_record(conversations, exchanges[model], of) for each, of in states.items()}
        judged = _with_judge(subject, kept[model], name, judge.sees or [])
        changed[model] = judged.model_copy(update={"conversations": conversed})
    agreed = agreement(by_judge(list(verdicts.values()), harmful))
    by_model = agreement_by_model(verdicts, harmful)
    evaluate = record.evaluate.model_copy(update={**changed, "agreement": agreed, "agreement_by_model": by_model})
    provenance = record.provenance.model_copy(update={"judges": judges})
    new = record.model_copy(update={"evaluate": evaluate, "provenance": provenance})
    write_atomically(files.record, new.model_dump_json(indent=1))
    return new


def _with_judge(subject: Subject, kept: JudgedSets, name: str, sees: Collection[str]) -> Subject:
    why = why_no_over_refusal(name, sees)
    return subject.model_copy(
        update={
            "defence": {rows: {**judged, name: defence(kept[rows][name])} for rows, judged in subject.defence.items()},
            "over_refusals": {
                rows: {**judged, name: over_refusal(kept[rows][name].verdicts, sees)}
                for rows, judged in subject.over_refusals.items()
            },
            "no_over_refusal": subject.no_over_refusal | ({name: why} if why and subject.over_refusals else {}),
        }
    )


def _score(judge: Judge, rows: str, prompts: Sequence[Prompt], answers: Sequence[str], progress: _Progress) -> Judged:
    asked = [prompt.text for prompt in prompts]
    found: list[Verdict] = []
    for start in range(0, len(prompts), CHUNK):
        said = judge_rows(judge, rows, prompts[start : start + CHUNK], answers[start : start + CHUNK])
        progress.add(said, judge)
        found += said
    return Judged(verdicts=found, early_differs=early_differences(judge, asked, answers, found))


def _answers(files: RunLayout, model: str, rows: str, prompts: Sequence[Prompt]) -> list[str]:
    kept = {line["prompt"]: line["completion"] for line in files.read_completions(model, rows)}
    if lost := next((prompt.id for prompt in prompts if prompt.id not in kept), None):
        raise DapaError(f"{files.completions(model, rows)}: no answer to prompt {lost}: was it deleted?")
    return [kept[prompt.id] for prompt in prompts]


def _kept(files: RunLayout, model: str, subject: Subject, judges: Sequence[str]) -> JudgedSets:
    """All judges' verdicts on a model's answers, read from disk."""
    return {
        rows: {judge: read_verdicts(files.verdicts(model, rows, judge)) for judge in judges}
        for rows in (*subject.defence, *subject.over_refusals)
    }


class _Progress:
    """Counts the answers judged so far, over all models and prompt sets, and the failed verdicts."""

    def __init__(self, report: Report, task: str, total: int) -> None:
        self._report, self._task, self._total, self._done = report, task, total, 0
        self.failed = 0
        report(Progress(task, 0, total))

    def add(self, verdicts: Sequence[Verdict], judge: Judge) -> None:
        """Count verdicts. Raises NoVerdictError if all of the first ones failed: the others would fail, too."""
        self._done += len(verdicts)
        self.failed += missing(verdicts)
        self._report(Progress(self._task, self._done, self._total))
        if self._done >= CHUNK and self.failed == self._done:
            raise NoVerdictError(
                f"judge {judge.name}: no verdict on any of the first {self._done} of {self._total} answers; the record"
                " is unchanged: once the judge works, the same command asks it again"
            )
