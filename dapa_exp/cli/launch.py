"""Starts composed runs through Hydra: a single run by `run_job`, a sweep by the chosen launcher."""

from __future__ import annotations

import logging
from concurrent.futures import BrokenExecutor
from contextlib import chdir
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, configure_log, env_override, run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from dapa_exp.base.errors import DapaError, complain, one_line
from dapa_exp.base.progress import display
from dapa_exp.cli.compose import Composed, check_config
from dapa_exp.cli.composer import CONFIG_NAME
from dapa_exp.record.folder import is_searched, read_record
from dapa_exp.record.mirror import destination, is_mirrored
from dapa_exp.sweep.job import Job

_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
_OURS = {
    f"{_SUBMITIT}.{name}": f"hydra_plugins.isolated_launcher.{name}" for name in ("SlurmLauncher", "LocalLauncher")
}
"""Hydra's submitit launchers, and ours, which take the same settings. Hydra's compose every run again in its job, and
without `sacct` they wait for ever for a job that was cancelled."""


def launch(composed: Composed) -> None:
    """Carry out every run that is not done. A sweep's failed runs have an `error.json` in their folders."""
    JobRuntime().set("name", "run")
    try:
        _sweep(composed) if composed.multirun else _single(composed)
    except HydraException as error:
        raise DapaError(one_line(error)) from error
    except BrokenExecutor as error:  # joblib's
        raise DapaError("a process of the launcher was killed; the same command goes on from here") from error
    except BrokenPipeError:
        raise  # the pipe that reads our output was closed; the output folder is fine
    except (OSError, ValueError) as error:
        if (cause := _first_cause(error)) is None:
            raise
        raise DapaError(f"{cause.filename or 'the output folder'}: {cause.strerror}") from error


def job(cfg: DictConfig) -> None:
    """Hydra's task function: one run, in this process."""
    from dapa_exp.execute import execute

    hydra = HydraConfig.get()
    single = hydra.mode == RunMode.RUN
    with chdir(hydra.runtime.cwd), display() as progress:  # relative paths keep their meaning with hydra.job.chdir
        try:
            execute(check_config(cfg), Path(hydra.runtime.output_dir), progress)
        except DapaError as error:
            # Hydra would print the traceback of an Exception. This error is a message for the user.
            complain(error)
            if single:
                raise SystemExit(1) from None
        except Exception:
            if single:
                raise
            logging.getLogger(__name__).exception("the run failed")  # the other runs go on


def _single(composed: Composed) -> None:
    (planned,) = composed.jobs
    if is_done(planned):
        return
    cfg = composed.config
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    callbacks = Callbacks(cfg)
    callbacks.on_run_start(config=cfg, config_name=CONFIG_NAME)
    returned = run_job(
        hydra_context=HydraContext(config_loader=composed.composer, callbacks=callbacks),
        task_function=job,
        config=cfg,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
    )
    callbacks.on_run_end(config=cfg, config_name=CONFIG_NAME, job_return=returned)
    _ = returned.return_value  # raises the run's error again


def _sweep(composed: Composed) -> None:
    cfg = composed.config
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    launcher_class = cfg.hydra.launcher._target_
    cfg.hydra.launcher._target_ = _OURS.get(launcher_class, launcher_class)
    callbacks = Callbacks(cfg)
    callbacks.on_multirun_start(config=cfg, config_name=CONFIG_NAME)
    launcher = Plugins.instance().instantiate_launcher(
        config=cfg,
        hydra_context=HydraContext(config_loader=composed.composer, callbacks=callbacks),
        task_function=job,
    )
    place = Path(cfg.hydra.sweep.dir)
    place.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, place / "multirun.yaml")
    left = {planned.folder: planned for planned in composed.jobs if not is_done(planned)}  # without duplicates
    overrides = [list(planned.overrides) for planned in left.values()]
    started = 0
    batches = BasicSweeper.split_overrides_to_chunks(overrides, cfg.hydra.sweeper.max_batch_size) if overrides else ()
    with env_override(dict(cfg.hydra.job.env_set)):
        for batch in batches:
            for returned in launcher.launch(batch, initial_job_idx=started):
                _ = returned.return_value
            started += len(batch)
    callbacks.on_multirun_end(config=cfg, config_name=CONFIG_NAME)


def is_done(planned: Job) -> bool:
    """Whether a run needs not be started: it has a record, which was mirrored if its config asks for that.

    A run that is asked for until its search needs only that.
    """
    folder, config = planned.folder, planned.config
    try:
        if config.record.until == "search" and is_searched(folder, config):
            return True
        to = destination(config.record)
        return read_record(folder, config) is not None and (to is None or is_mirrored(folder, to))
    except DapaError:  # the folder of another run, or a damaged record: starting the run reports it
        return False


def _first_cause(error: BaseException) -> OSError | None:
    """The OSError that caused an error, if any. Hydra's logging wraps that of a full disk in a ValueError."""
    if isinstance(error, OSError):
        return error
    return _first_cause(error.__cause__) if error.__cause__ else None
