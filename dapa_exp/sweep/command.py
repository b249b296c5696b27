"""`dapa run` and `dapa plan`: everything is checked before anything starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.table import Table

from dapa_exp.config.compose import CONFIG_NAME, Job, conf_dir, flags_first, jobs, only_shows, register_resolvers, typed
from dapa_exp.errors import DapaError, complain
from dapa_exp.evaluate.offline import offline_sets
from dapa_exp.fetch.store import fetch
from dapa_exp.preflight.estimate import needs
from dapa_exp.preflight.facts import shape_of
from dapa_exp.preflight.totals import cells, models_of, summary, totals
from dapa_exp.progress import console, display
from dapa_exp.record.folder import write_atomically
from dapa_exp.sweep.status import is_running, search_name, status
from dapa_exp.zoo import store


def run_command(words: list[str]) -> int:
    """Carry out one run or a sweep through Hydra, then print its tables and what failed."""
    register_resolvers()
    if only_shows(words):
        _hydra(words)
        return 0
    planned = jobs(words)
    _remark(planned)
    make_room(planned)
    prepare(planned)
    try:
        _hydra(words)
    except DapaError as error:
        if len(planned) == 1:
            raise
        complain(error)  # of some runs; what the others found is still to be shown
    return _conclude(planned)


def plan_command(words: list[str]) -> int:
    """Print every run that `dapa run` with the same words would start, what is done of it, and what it will need."""
    planned = jobs(words)
    _remark(planned)
    wanted = [needs(job.config, shape_of) for job in planned]
    table = Table(*("run", "units", "queries", "memory", "disk", "identity", "state"), box=None)
    for column in table.columns[1:5]:
        column.justify = "right"
    for job, need in zip(planned, wanted, strict=True):
        table.add_row(job.folder.name, *cells(job.config, need, shape_of), job.identity[:12], _state(job))
    console().print(table)
    to_do = [place for place, job in enumerate(planned) if _state(job) not in ("done", "running")]
    if to_do:
        found = totals([planned[i].config for i in to_do], [wanted[i] for i in to_do], shape_of)
        print("to do: " + "\n".join(summary(found)))
    return 0


def job(cfg: DictConfig) -> None:
    """Hydra's task function: one run, in this process."""
    from dapa_exp.execute import execute

    with display() as progress:
        try:
            execute(typed(cfg), Path(HydraConfig.get().runtime.output_dir), progress)
        except DapaError as error:
            # Hydra prints a traceback of whatever is an Exception; this one is written for the user.
            complain(error)
            raise SystemExit(1) from None


def _remark(planned: Sequence[Job]) -> None:
    """Say so where an experiment's sweep was asked for without -m, of which Hydra makes a single run."""
    if keys := planned[0].unswept:
        print(f"one run only: the experiment sweeps {', '.join(keys)} with -m", file=sys.stderr, flush=True)


def _hydra(words: Sequence[str]) -> None:
    sys.argv = ["dapa run", *flags_first(words)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra is to raise what goes wrong, not to print it and exit
    try:
        hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")(job)()
    except HydraException as error:
        raise DapaError(" ".join(str(error).split())) from error
    except BrokenPipeError:
        raise  # of what is printed, not of the output folder
    except (OSError, ValueError) as error:
        if (cause := _first_cause(error)) is None:
            raise
        raise DapaError(f"{cause.filename or 'the output folder'}: {cause.strerror}") from error


def _first_cause(error: BaseException) -> OSError | None:
    """The failed system call behind an error: Hydra's logging reports a full disk as a wrong value."""
    if isinstance(error, OSError):
        return error
    return _first_cause(error.__cause__) if error.__cause__ else None


def make_room(planned: Sequence[Job]) -> None:
    """Create the folders that results go to, and list in each sweep's folder what is asked of it."""
    asked: dict[Path, Job] = {}
    for job in planned:
        if asked.setdefault(job.folder, job).identity != job.identity:
            raise DapaError(f"{job.folder}: two different runs would share this folder")
        if job.folder.exists() and not (job.folder.is_dir() and os.access(job.folder, os.W_OK)):
            raise DapaError(f"{job.folder}: results cannot be written there")
    for folder in {folder.parent for folder in asked}:
        runs = [_entry(job) for job in asked.values() if job.folder.parent == folder]
        listing = folder / "sweep.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".sweep.lock"):  # sweeps that share a folder may begin at the same time
                kept = json.loads(listing.read_text())["runs"] if listing.is_file() else []
                names = {run["folder"] for run in runs}
                write_atomically(
                    listing, json.dumps({"runs": [r for r in kept if r["folder"] not in names] + runs}, indent=1)
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DapaError(f"{folder}: results cannot be written there: {error}") from error


def _entry(job: Job) -> dict[str, str]:
    return {
        "folder": job.folder.name,
        "identity": job.identity,
        "pair": job.config.pair.name,
        "family": job.config.family.name,
        "granularity": job.config.granularity.name,
        "search": search_name(job.config.search.algorithm, job.config.search.prior),
        "dataset": job.config.dataset.name,
    }


def _state(job: Job) -> str:
    if (job.folder / "record.json").is_file():
        return "done"
    if is_running(job.folder):
        return "running"
    if (job.folder / "error.json").is_file():
        return "failed before: to do"
    return "interrupted: to do" if (job.folder / "search.jsonl").is_file() else "to do"


def prepare(planned: Sequence[Job]) -> None:
    """Fetch the prompt sets and make the zoo's models that the runs need and the cache does not hold: here, once."""
    sets = [rows.fetched_name for job in planned for rows in job.config.dataset.sets().values()]
    sets += [name for job in planned for name in offline_sets(job.config.evaluate.tasks.names)]
    names = {model.zoo_name for job in planned for model in models_of(job.config)}
    missing = {name for name in names if name and not store.is_built(name)}
    with display() as progress:
        fetch(filter(None, sets), progress)
        if missing:
            from dapa_exp.zoo.build import build

            build(sorted(missing), progress)


def _conclude(planned: Sequence[Job]) -> int:
    """Print the tables of what was asked for, and every failure with its reason."""
    from analysis.report import report  # here, since its libraries take two seconds that a plan has no need of

    folders = {job.folder.parent for job in planned}
    single = planned[0].folder if len(planned) == 1 else None
    written = True
    try:
        report([single] if single else sorted(folders), console(), [job.folder for job in planned])
    except OSError as error:
        written = False
        complain(DapaError(f"the tables cannot be written: {error}"))
    asked = {job.folder.name for job in planned}
    failed = [s for folder in sorted(folders) for s in status(folder) if s.folder in asked and s.state != "done"]
    for run in failed:
        print(f"{run.state}: {run.folder}: {run.reason or 'no record was written'}", file=sys.stderr)
    return 0 if written and not failed else 1
