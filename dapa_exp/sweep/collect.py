"""Finds what lies in a sweep's folder and no record needs. Nothing that was measured, generated or not yet sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dapa_exp.base.claim import claims
from dapa_exp.base.files import leftovers, remove
from dapa_exp.record.folder import litter
from dapa_exp.record.layout import SweepLayout
from dapa_exp.record.status import RunStatus, status

OLD_SECONDS = 3600.0
"""Temporary files outside the run folders are left alone for so long: a report may be writing them."""


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can go, and why."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())

    def remove(self) -> None:
        remove(self.path)


def garbage(folder: Path) -> list[Garbage]:
    """What can go from the folder of a sweep or a run, except from runs that a process works on.

    Whether a process works on a run is asked last: one that has begun meanwhile has written nothing that was listed.
    """
    runs, sweep = status(folder), SweepLayout(folder)
    listed = [(run.path, what) for run in runs for what in _of_run(run)]
    hidden = [*sweep.shared.glob(".*"), *sweep.shared_references.glob(".*")]
    busy = {run.path for run in status(folder) if run.owner}
    found = [what for path, what in listed if path not in busy]
    found += [Garbage(path, "left by a killed process") for path in leftovers(folder, older_than=OLD_SECONDS)]
    found += [Garbage(path, "a lock of an earlier version") for path in (sweep.old_lock,) if path.is_file()]
    if not busy:
        found += [Garbage(path, "left by a killed process") for path in hidden]
    if all(run.state == "done" for run in runs):
        if sweep.jobs.is_dir():
            found.append(Garbage(sweep.jobs, "logs and tasks of the cluster's jobs; all runs are done"))
        if sweep.shared_references.is_dir():
            found.append(Garbage(sweep.shared_references, "was for measuring; all runs are done"))
    return found


def _of_run(run: RunStatus) -> Iterator[Garbage]:
    for path in litter(run.files):
        kept_for = path == run.files.references
        yield Garbage(path, "was for measuring, and the run is done" if kept_for else "left by a killed process")
    if run.files.old_lock.is_file():
        yield Garbage(run.files.old_lock, "a lock of an earlier version")
    for path in claims(run.files.claim):
        yield Garbage(path, "the claim of a process that has ended")
