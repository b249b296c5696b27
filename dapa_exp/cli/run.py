"""`dapa run`: everything is checked before anything starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from dapa_exp.base.errors import DapaError, complain
from dapa_exp.base.progress import console, display
from dapa_exp.cli.compose import (
    CONFIG_NAME,
    conf_dir,
    flags_first,
    jobs,
    note_unswept,
    only_shows,
    register_resolvers,
    typed,
)
from dapa_exp.cli.status import unsent
from dapa_exp.record.status import status
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.prepare import make_room, prepare


def run_command(words: list[str]) -> int:
    """Carry out one run or a sweep through Hydra, then print its tables and what failed."""
    register_resolvers()
    if only_shows(words):
        _hydra(words)
        return 0
    planned = jobs(words)
    note_unswept(planned)
    make_room(planned)
    prepare(planned)
    try:
        _hydra(words)
    except DapaError as error:
        if len(planned) == 1:
            raise
        complain(error)  # of some runs; what the others found is still to be shown
    return _conclude(planned)


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
    runs = [run for folder in sorted(folders) for run in status(folder) if run.folder in asked]
    failed = [run for run in runs if run.state != "done"]
    for run in failed:
        print(f"{run.state}: {run.folder}: {run.reason or 'no record was written'}", file=sys.stderr)
    for run in runs:
        if run.unsent:
            print(unsent(run), file=sys.stderr)
    return 0 if written and not failed else 1
