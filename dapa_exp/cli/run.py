"""`dapa run`: checks all runs, then starts them, then prints their tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException

from dapa_exp.base.errors import DapaError, complain, one_line
from dapa_exp.base.progress import console
from dapa_exp.cli.compose import compose, make_composer, note_unmeasurable, note_unswept, parse_words
from dapa_exp.cli.composer import CONFIG_NAME
from dapa_exp.cli.launch import is_done, launch
from dapa_exp.cli.status import unsent
from dapa_exp.config.registries import METRICS, PRIORS
from dapa_exp.config.schema import Config, RecordSettings
from dapa_exp.preflight.settings import may_need_the_hub, setting_problems
from dapa_exp.record.mirror import destination, mirror_sweep
from dapa_exp.record.status import RunStatus, status
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.prepare import make_room, prepare


def run_command(words: list[str]) -> int:
    """Carry out one run or a sweep through Hydra, then print its tables and what failed."""
    composed = compose(words)
    planned = composed.jobs
    note_unswept(planned)
    note_unmeasurable(planned)
    to_do = [job for job in planned if not is_done(job)]
    refuse_early([job.config for job in to_do])
    if to_do and (done := len(planned) - len(to_do)):
        print(f"{done} of {len(planned)} runs done before; the others are started now", file=sys.stderr, flush=True)
    make_room(planned)
    prepare(planned)
    try:
        launch(composed)
    except DapaError as error:
        if not composed.multirun:
            raise
        complain(error)  # some runs failed; the tables of the others are still shown
    if not planned[0].config.runtime.wait:
        folders = " ".join(sorted({str(job.folder.parent) for job in planned}))
        print(f"submitted. dapa status --watch {folders} follows; the same command without runtime.wait=false finishes")
        return 0
    return _conclude_searches(planned) if planned[0].config.record.until else _conclude(planned)


def refuse_early(configs: Sequence[Config]) -> None:
    """Raise DapaError with those problems of `dapa check` that can be found quickly."""
    problems = [problem for config in configs for problem in setting_problems(config)]
    if any(map(may_need_the_hub, configs)):
        from dapa_exp.preflight.findings import hub_problems  # imported here: it imports torch

        problems += hub_problems(configs)
    if problems:
        raise DapaError("\n".join(["nothing was started:", *(f"  {problem}" for problem in dict.fromkeys(problems))]))


def show(words: Sequence[str], about: str = "") -> int:
    """Print what Hydra's flags ask for: help (first the line `about` a verb), a config, information or completions."""
    args = parse_words(words)
    asked = {"config_name": CONFIG_NAME, "overrides": args.overrides}
    sys.argv[0] = "dapa"  # the name in Hydra's help and completions
    try:
        hydra = Hydra("run", make_composer(args))
        if args.help:
            print(f"dapa {about}\n")
            hydra.app_help(config_name=CONFIG_NAME, args_parser=get_args_parser(), args=args)
            print(f"evaluate.metrics allows: {', '.join(METRICS.names())}")
            print(f"search.prior allows: {', '.join(PRIORS.names())}")
        elif args.hydra_help:
            hydra.hydra_help(config_name=CONFIG_NAME, args_parser=get_args_parser(), args=args)
        elif args.cfg:
            hydra.show_cfg(**asked, cfg_type=args.cfg, package=args.package, resolve=args.resolve)
        elif args.shell_completion:
            hydra.shell_completion(**asked)
        else:
            hydra.show_info(args.info, **asked)
    except (HydraException, ValueError) as error:
        raise DapaError(one_line(error)) from error
    return 0


def _mirror_sweeps(folders: Iterable[Path], settings: RecordSettings) -> None:
    """Send the W&B run that sums up each sweep, if its runs are mirrored. A failure costs the summary only."""
    if (to := destination(settings)) is None:
        return
    for folder in folders:
        try:
            mirror_sweep(folder, to)
        except DapaError as error:
            complain(error)


def _conclude_searches(planned: Sequence[Job]) -> int:
    """Print how many searches are done, and each that failed with its reason. Returns the exit code."""
    left = [run for run in _of(planned) if not run.files.found.is_file()]
    for run in left:
        print(f"{run.state}: {run.folder}: {run.reason or 'no set was written'}", file=sys.stderr)
    done = f"{len(planned) - len(left)} of {len(planned)} searches are done"
    print(f"{done}; the same command without record.until=search goes on from there")
    return 1 if left else 0


def _of(planned: Sequence[Job]) -> list[RunStatus]:
    asked = {job.folder.name for job in planned}
    folders = {job.folder.parent for job in planned}
    return [run for folder in sorted(folders) for run in status(folder) if run.folder in asked]


def _conclude(planned: Sequence[Job]) -> int:
    """Print the tables of the planned runs, and each failed run with its reason. Returns the exit code."""
    from analysis.report import report  # imported here: it takes two seconds

    folders = {job.folder.parent for job in planned}
    single = planned[0].folder if len(planned) == 1 else None
    written = True
    try:
        report([single] if single else sorted(folders), console(), [job.folder for job in planned])
    except OSError as error:
        written = False
        complain(DapaError(f"the tables cannot be written: {error}"))
    if not single:
        _mirror_sweeps(folders, planned[0].config.record)
    runs = _of(planned)
    failed = [run for run in runs if run.state != "done"]
    for run in failed:
        print(f"{run.state}: {run.folder}: {run.reason or 'no record was written'}", file=sys.stderr)
    for run in runs:
        if run.unsent:
            print(unsent(run), file=sys.stderr)
    return 0 if written and not failed else 1
