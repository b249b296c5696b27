"""`dapa plan`: lists the runs that would start, their status and their estimated needs."""

from __future__ import annotations

from functools import cache

from rich.table import Table

from dapa_exp.base.progress import console
from dapa_exp.cli.compose import jobs, note_unmeasurable, note_unswept
from dapa_exp.preflight.estimate import needs
from dapa_exp.preflight.facts import shape_of
from dapa_exp.preflight.totals import cells, summary, totals
from dapa_exp.record.status import run_status
from dapa_exp.sweep.job import Job


def plan_command(words: list[str]) -> int:
    """Print the runs that `dapa run` would start with the same words, with their status and estimated needs."""
    planned = jobs(words)
    note_unswept(planned)
    note_unmeasurable(planned)
    known = cache(shape_of)  # the runs of a sweep share their models
    wanted = [needs(job.config, known) for job in planned]
    table = Table(*("run", "units", "queries", "memory", "disk", "identity", "state"), box=None)
    for column in table.columns[1:5]:
        column.justify = "right"
    states = [_state(job) for job in planned]
    for job, need, state in zip(planned, wanted, states, strict=True):
        table.add_row(job.folder.name, *cells(job.config, need, known), job.identity[:12], state)
    console().print(table)
    to_do = [place for place, state in enumerate(states) if state not in ("done", "running")]
    if to_do:
        found = totals([planned[i].config for i in to_do], [wanted[i] for i in to_do], known)
        print("to do: " + "\n".join(summary(found)))
    return 0


def _state(job: Job) -> str:
    found = run_status(job.folder, job.identity)
    if found.state in ("done", "running"):
        return found.state
    if found.files.record.is_file():
        return f"failed: {found.reason}"
    return {"failed": "failed before: to do", "interrupted": "interrupted: to do"}.get(found.state, "to do")
