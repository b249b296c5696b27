"""What `dapa align` says: before it starts, after each search, and at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from dapa_exp.base.memory import free_memory
from dapa_exp.config.schema import Config
from dapa_exp.preflight.estimate import RunNeeds
from dapa_exp.preflight.facts import Shape
from dapa_exp.preflight.totals import format_bytes
from dapa_exp.prompts.files import is_table
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record, SearchRecord

UNITS = {"layer": "layers", "module": "modules (attention, MLP)", "part": "parts (attention, MLP projections)"}
MODEL, PATCH = "model", "patch.safetensors"
"""What is exported to the output folder."""
SIGHT = {"refused": "refusals", "harmless": "harmless answers", "harmful": "harmful answers"}


@dataclass(frozen=True)
class Kept:
    """A task that must not get worse: its score in the student and in the hybrid."""

    name: str
    student: Measure
    hybrid: Measure

    @property
    def fall(self) -> float:
        return self.student.value - self.hybrid.value

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The 95 % interval of the fall, as if the two had answered different rows, which is too wide for the same."""
        s, h = self.student, self.hybrid
        if s.low is None or s.high is None or h.low is None or h.high is None:
            return None
        down, up = (
            sqrt((s.value - s.low) ** 2 + (h.high - h.value) ** 2),
            sqrt((s.high - s.value) ** 2 + (h.value - h.low) ** 2),
        )
        return self.fall - down, self.fall + up

    def is_lost(self, tolerance: float) -> bool:
        """Whether it falls by more than so many points."""
        return self.fall > tolerance / 100

    def sentence(self, tolerance: float) -> str:
        said = f"{self.name}: {_percent(self.student)} → {_percent(self.hybrid)}, n = {self.hybrid.n}"
        verdict = f"falls by more than {tolerance:g} points" if self.is_lost(tolerance) else "is kept"
        unknown = ""
        if (bounds := self.bounds) and bounds[1] > tolerance / 100:
            unknown = f"; so few rows do not rule out a fall of up to {100 * bounds[1]:.0f} points"
        return f"{said}: {verdict}{unknown}"


def needs_lines(
    config: Config, wanted: RunNeeds, shape: Shape | None, out: Path, seconds: float, minutes: float | None
) -> Iterator[str]:
    """What is going to be done, and what it takes."""
    runtime, sets = config.runtime, config.dataset.sets()
    size = ""
    if shape:
        size = f" ({shape.model_type}, {shape.num_hidden_layers} layers, {shape.parameters / 1e6:,.1f}M parameters)"
    yield f"student  {config.pair.student.id}{size}"
    yield f"teacher  {config.family.teacher.id}"
    rows = {use: of.count for use, of in sets.items()}
    harmful = ", ".join(f"{rows[use]} of {of.source}" for use, of in sets.items() if "report" in use)
    harmless = ", ".join(f"{rows[use]} of {of.source}" for use, of in sets.items() if "harmless" in use)
    yield f"prompts  search: {rows['search']} of {config.dataset.search.source}; report: {harmful}, other rows;"
    yield f"         over-refusal: {harmless or 'none'}"
    yield f"judge    {config.judge.name}{_blindness(sorted(config.judge.sees()))}"
    disk = f"{format_bytes(2 * shape.checkpoint_bytes)} of disk at most" if shape else "unknown disk"
    free = f" ({format_bytes(free_memory())} are free)" if runtime.device == "cpu" else ""
    memory = f"about {format_bytes(wanted.memory)} of memory" if shape else "unknown memory"
    yield f"takes    {memory}{free}; {disk};"
    measuring = "unknown time" if minutes is None else f"about {minutes:.0f} minutes" if minutes >= 1 else "a minute"
    limit = f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
    yield f"         searches: {limit} at most; measuring: {measuring}, with one thread"
    yield f"on       {runtime.device}, {runtime.dtype}"
    yield f"writes   {out}"


def found_sentence(search: SearchRecord) -> str:
    """What one search has found."""
    units = UNITS.get(search.granularity, "units")
    if search.status == "no_gain":
        return f"{units}: no gain: with all of the teacher's, the student defends hardly more than by itself"
    found = f"{units}: {len(search.units_found)} of {search.units_total}"
    if search.status == "certified":
        return f"{found} suffice, and each of them is needed on the search's prompts (certified)"
    if search.stopped_by:
        enough = "they suffice, and fewer may" if search.passed else "they do not suffice"
        return f"{found} when the time was over: {enough}"
    return f"{found} together do not reach the defense success rate that was asked for"


def why_nothing(search: SearchRecord) -> str:
    """Why a search has nothing to export, and what to try."""
    if search.status == "no_gain":
        return (
            f"with all layers of the teacher, {100 * search.everything_dsr:.0f} % of the search's prompts are defended,"
            f" without them {100 * search.student_dsr:.0f} %. Take another teacher, or other prompts (dataset=…)"
        )
    return "no set reached the bar in the time given; --time gives it more"


def kept_measures(record: Record, keep: Sequence[str]) -> list[Kept]:
    """The scores of the tasks that must not get worse, in student and hybrid."""
    student, hybrid = record.evaluate.student, record.evaluate.hybrid
    found = []
    for task in keep:
        if is_table(Path(task)) and student.reasoning and hybrid.reasoning:
            found.append(Kept(task, student.reasoning, hybrid.reasoning))
        found += [
            Kept(name, score, hybrid.tasks[name])
            for name, score in student.tasks.items()
            if name.startswith(f"{task}/") and "perplexity" not in name
        ]
    return found


def account(record: Record, folder: Path, out: Path, keep: Sequence[str], tolerance: float, page: Path) -> str:
    """What was found and measured, where it lies, and what to do with it."""
    search, judge = record.search, next(iter(record.provenance.judges))
    kept = kept_measures(record, keep)
    lines = [
        "",
        *_table(record, judge),
        "",
        f"changed: {record.transplant.percent:.1f} % of the parameters: {', '.join(search.units_found)}",
        f"judge: {judge}{_blindness(record.provenance.judges[judge].sees or [])}",
        *(one.sentence(tolerance) for one in kept),
        *([] if search.status == "certified" else ["not certified: the time was over before each unit was tried"]),
        f"record and answers: {folder}",
        f"all results in one page: {page}",
    ]
    if any(one.is_lost(tolerance) for one in kept):
        why = "nothing is exported, since a task that was to be kept got worse"
        lines += [f"{why}: transplant=blend or search.threshold=0.7 moves less; a larger --tolerance allows the fall"]
    else:
        lines += [f"model: {out / MODEL} (with its card); patch: {out / PATCH}"]
        lines += [
            f"talk to it: dapa chat {folder}",
            f"publish it: dapa export {folder} {out / MODEL} --push YOU/NAME",
        ]
    return "\n".join(lines)


def _table(record: Record, judge: str) -> list[str]:
    """The lines of a table of what was measured on student, hybrid and teacher."""
    of = [record.evaluate.student, record.evaluate.hybrid, record.evaluate.teacher]
    rows = [["", "student", "aligned", "(teacher)"], ["defended", *(_interval(one.dsr) for one in of)]]
    for name in record.evaluate.hybrid.defence:
        if name != "report":
            rows += [[f"defended, {name}", *(_interval(one.defence[name][judge].dsr) for one in of)]]
    rows += [["over-refusal", *(_interval(one.over_refusal) for one in of)]]
    rows += [["perplexity", *(f"{one.perplexity.value:.2f}" if one.perplexity else "" for one in of)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _blindness(sees: Sequence[str]) -> str:
    """What a judge tells apart, and what it takes for something else."""
    said = f": sees {' and '.join(SIGHT[what] for what in sees)}"
    return f"{said} only; a harmless answer without a refusal counts as harmful" if list(sees) == ["refused"] else said


def _percent(measure: Measure) -> str:
    return f"{100 * measure.value:.1f} %"


def _interval(measure: Measure | None) -> str:
    if measure is None:
        return ""
    if measure.low is None or measure.high is None:
        return _percent(measure)
    return f"{_percent(measure)} [{100 * measure.low:.0f}, {100 * measure.high:.0f}]"
