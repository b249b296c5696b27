"""`dapa reproduce RUN`: carries out a finished run again, in another folder, and grades how the results differ."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from pydantic import TypeAdapter

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import display
from dapa_exp.record.compare import differences, grade
from dapa_exp.record.identity import identity, run_folder
from dapa_exp.record.layout import Reproducible, RunLayout, read_json
from dapa_exp.record.provenance import git_commit, versions
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.prepare import prepare

SHOWN = 20


def reproduce_command(words: list[str]) -> int:
    """Carry out `dapa reproduce RUN [OUT]`. The exit code is 0 if the results are the same, or within numerics."""
    parser = ArgumentParser("dapa reproduce", description="Repeats a finished run, and says what differs.")
    parser.add_argument("run", type=Path, help=f"the run's folder, or its {RunLayout(Path()).reproduce.name}")
    parser.add_argument("out", type=Path, nargs="?", help="the new run's folder; default: multirun/reproduced/NAME")
    asked = parser.parse_args(words)
    in_folder = asked.run.is_dir()
    theirs = RunLayout(asked.run).read_reproducible() if in_folder else read_json(asked.run, TypeAdapter(Reproducible))
    # What is taken from another run reproduces nothing, and a mirror would replace the run's, which has the same id.
    alone = theirs.config.record.model_copy(update={"share": False, "wandb": "off"})
    config, known = theirs.config.model_copy(update={"record": alone}), identity(theirs.config)
    out = asked.out or Path(config.record.dir) / "reproduced" / run_folder(config, known)
    if in_folder and out.resolve() == asked.run.resolve():
        raise DapaError(f"{out}: this is the run itself; name another folder")
    for changed in _changes(theirs):
        print(f"note: {changed}")
    prepare([Job(config, (), known, out)])
    from dapa_exp.run import run  # imported here: it imports torch

    with display() as report:
        ours = run(config, out, report)
    found = differences(theirs.record, ours)
    for key, old, new in found[:SHOWN]:
        print(f"{key}: {old} -> {new}")
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN} more; both records: {asked.run}, {RunLayout(out).record}")
    verdict = grade(found)
    print(f"{verdict}: {out}")
    return 1 if verdict == "different" else 0


def _changes(theirs: Reproducible) -> list[str]:
    """What has changed since the run, and may change its result."""
    then, now = theirs.record.provenance.versions, versions()
    said = [f"{name} was {old}, and is {now.get(name)}" for name, old in then.items() if now.get(name) != old]
    if theirs.record.provenance.git not in (None, git_commit()):
        said.append(f"the code was at {theirs.record.provenance.git}, and is at {git_commit()}")
    if (known := identity(theirs.config)) != theirs.record.identity:
        said.append(f"the identity was {theirs.record.identity[:8]}, and is {known[:8]}: rows, models or code differ")
    return said
