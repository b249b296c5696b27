"""`dapa plan`: lists the runs that would start, their status and their estimated needs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.table import Table

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import console
from dapa_exp.cli.compose import jobs, note_unmeasurable, note_unswept
from dapa_exp.cli.status import duration
from dapa_exp.config.registries import Queries
from dapa_exp.preflight.estimate import RunNeeds, needs
from dapa_exp.preflight.facts import shape_of
from dapa_exp.preflight.totals import cells, summary, totals
from dapa_exp.record.status import RunStatus, Siblings, as_listed, read_all, status


def plan_command(words: list[str]) -> int:
    """Print the runs that `dapa run` would start with the same words, with their status and estimated needs."""
    planned = jobs(words)
    note_unswept(planned)
    note_unmeasurable(planned)
    known = cache(shape_of)  # the runs of a sweep share their models
    runs = read_all([as_listed(job.folder, job.listed()) for job in planned])
    siblings = Siblings([run for folder in {job.folder.parent for job in planned} for run in _found(folder)])
    wanted = [
        _as_siblings(needs(job.config, known), siblings.queries(run)) for job, run in zip(planned, runs, strict=True)
    ]
    table = Table(*("run", "units", "queries", "memory", "disk", "identity", "state"), box=None)
    for column in table.columns[1:5]:
        column.justify = "right"
    for job, need, run in zip(planned, wanted, runs, strict=True):
        table.add_row(job.folder.name, *cells(job.config, need, known), job.identity[:12], _state(run))
    console().print(table)
    to_do = [place for place, run in enumerate(runs) if run.state not in ("done", "running")]
    if to_do:
        done = [job.config for job, run in zip(planned, runs, strict=True) if run.state in ("done", "running")]
        found = totals([planned[i].config for i in to_do], [wanted[i] for i in to_do], known, done)
        print("to do: " + "\n".join(summary(found)))
        print(_time([siblings.seconds(runs[i]) for i in to_do]), end="")
    return 0


def _found(folder: Path) -> list[RunStatus]:
    """All runs of a sweep's folder; none if there is no such folder."""
    with suppress(DapaError):
        return status(folder)
    return []


def _as_siblings(need: RunNeeds, queries: float | None) -> RunNeeds:
    """The same needs with as many queries as finished siblings have made, if there is one."""
    return need if queries is None else replace(need, queries=Queries(round(queries), "about"))


def _time(expected: Sequence[float | None]) -> str:
    known = [seconds for seconds in expected if seconds is not None]
    about = "about" if len(known) == len(expected) else "at least"
    return f"time: {about} {duration(sum(known))} one after the other, as finished runs took\n" if known else ""


def _state(run: RunStatus) -> str:
    if run.state in ("done", "running"):
        return run.state
    if run.files.record.is_file():
        return f"failed: {run.reason}"
    before = {"failed": "failed before", "interrupted": "interrupted", "searched": "searched"}.get(run.state)
    return f"{before}: to do" if before else "to do"
