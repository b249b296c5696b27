"""Hands the runs of a sweep to submitit: as an array of jobs of a SLURM cluster, or as processes of this machine.

A job carries out its run in a child process, as a sweep on one machine does: if the child is killed, the job writes the
reason. Whether a job has ended is seen from the run's folder, and on SLURM from `squeue`. So nothing depends on SLURM's
accounting (`sacct`), and a cancelled job is not waited for.
"""

from __future__ import annotations

import getpass
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dapa_exp.base.claim import owners, process_start
from dapa_exp.base.errors import DapaError, one_line
from dapa_exp.base.files import remove, write_atomically
from dapa_exp.base.progress import Progress, Report, display
from dapa_exp.record.folder import leave_error
from dapa_exp.record.layout import RunLayout, SubmittedJob
from dapa_exp.record.status import RunStatus
from dapa_exp.sweep.isolation import Task, run_isolated

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

Cluster = Literal["slurm", "local"]

POLL_SECONDS = 2.0
"""How often the runs' folders are looked at."""
ASK_SECONDS = 15.0
"""How often it is asked which jobs have not ended."""
_SHARED = {
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node"),
    *("mem_gb", "nodes", "name", "stderr_to_stdout"),
}
"""The settings that submitit takes for every cluster. It takes others with the cluster's name before them."""


@dataclass(frozen=True)
class Job:
    """What a job carries out: one run."""

    task: Task

    def __call__(self) -> None:
        with display() as report:
            run_isolated([self.task], [None], report)

    def checkpoint(self) -> DelayedSubmission:
        """What is submitted again when the job's time is over: the same, since a run goes on where it was stopped."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_submitted(
    tasks: Sequence[Task], cluster: Cluster, settings: Mapping[str, Any], wait: bool, report: Report
) -> None:
    """Submit every task that no living job has. With `wait`, return when all jobs have ended.

    `settings` are those of Hydra's submitit launchers. A failed run has an `error.json` in its folder. Raises DapaError
    if the jobs cannot be submitted.
    """
    known = {task.folder: job for task in tasks if (job := RunLayout(task.folder).read_job()) is not None}
    living = _living(known.values())
    jobs = {folder: job for folder, job in known.items() if job in living}
    left = [task for task in tasks if task.folder not in jobs]
    if left:
        jobs |= _submit(left, cluster, settings)
    if wait:
        _wait(jobs, report)


def mark_waiting(runs: Sequence[RunStatus]) -> list[RunStatus]:
    """The runs, with the state "waiting" for those whose submitted job has not begun."""
    jobs = {run.folder: job for run in runs if run.state not in ("done", "running") and (job := run.files.read_job())}
    living = _living(jobs.values())
    waiting = {folder: job for folder, job in jobs.items() if job in living}
    return [
        replace(run, state="waiting", reason=_why_waiting(job, living[job]))
        if (job := waiting.get(run.folder))
        else run
        for run in runs
    ]


def _why_waiting(job: SubmittedJob, reason: str) -> str:
    return f"job {job.id} has not begun{f' (SLURM: {reason})' if reason not in ('', 'None') else ''}"


def _submit(tasks: Sequence[Task], cluster: Cluster, settings: Mapping[str, Any]) -> dict[Path, SubmittedJob]:
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    named = {key if key in _SHARED else f"{cluster}_{key}": value for key, value in settings.items()}
    folder, retries = named.pop(f"{cluster}_submitit_folder"), f"{cluster}_max_num_timeout"
    for task in tasks:
        remove(RunLayout(task.folder).error)  # whoever waits takes an error for this attempt's
    try:
        executor = submitit.AutoExecutor(folder, cluster, **({retries: named.pop(retries)} if retries in named else {}))
        executor.update_parameters(**named)
        submitted = executor.submit_array([Job(task) for task in tasks])
    except (RuntimeError, NameError, FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
        raise DapaError(f"hydra/launcher: the runs cannot be submitted: {one_line(error)}") from error
    jobs = {}
    for task, job in zip(tasks, submitted, strict=True):
        started = process_start(int(job.job_id)) if cluster == "local" else None
        jobs[task.folder] = SubmittedJob(cluster=cluster, id=job.job_id, started=started, log=str(job.paths.stderr))
        write_atomically(RunLayout(task.folder).job, jobs[task.folder].model_dump_json(indent=1))
    return jobs


def _wait(jobs: Mapping[Path, SubmittedJob], report: Report) -> None:
    """Wait until every run has a record or an error, or its job has ended without either, which is then its error."""
    pending, gone, asked = dict(jobs), set[SubmittedJob](), time.monotonic()
    report(Progress("runs", 0, len(jobs)))
    try:
        while pending:
            time.sleep(POLL_SECONDS)
            if time.monotonic() - asked > ASK_SECONDS:
                dead = set(pending.values()) - _living(pending.values()).keys()
                for folder, job in pending.items():
                    if job in dead & gone:  # since the last time already: its files are visible here by now
                        _note_end(folder, job)
                gone, asked = dead, time.monotonic()
            pending = {folder: job for folder, job in pending.items() if not _has_ended(folder)}
            report(Progress("runs", len(jobs) - len(pending), len(jobs)))
    except KeyboardInterrupt:
        ids = " ".join(sorted({job.id.partition("_")[0] for job in pending.values()}))
        print(f"{len(pending)} jobs go on ({ids}): `dapa status` follows them", file=sys.stderr)
        raise


def _has_ended(folder: Path) -> bool:
    return RunLayout(folder).record.is_file() or RunLayout(folder).error.is_file()


def _note_end(folder: Path, job: SubmittedJob) -> None:
    """Write the error of a run whose job has ended without a word, unless another process works on the run."""
    if not _has_ended(folder) and owners([RunLayout(folder).claim]) == [None]:
        how = "ended before the run was done (cancelled, out of time, or its node failed)"
        leave_error(folder, "ended", f"job {job.id} {how}; its log: {job.log}")


def _living(jobs: Iterable[SubmittedJob]) -> dict[SubmittedJob, str]:
    """Those jobs that wait or run, and why SLURM lets them wait. All SLURM jobs, if SLURM does not answer."""
    local = {job for job in jobs if job.cluster == "local"}
    slurm = {job for job in jobs if job.cluster == "slurm"}
    found = {job: "" for job in local if process_start(int(job.id)) == job.started}
    if slurm:
        asked = ["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i %r"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return found | dict.fromkeys(slurm, "")
        reasons = {line.partition(" ")[0]: line.partition(" ")[2].strip() for line in done.stdout.splitlines()}
        found |= {job: reasons[job.id] for job in slurm if job.id in reasons}
    return found
