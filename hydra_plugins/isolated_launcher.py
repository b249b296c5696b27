"""Our Hydra launchers: each run is a child process of this machine, a job that submitit submits, or a task of Ray.

They are in the namespace package `hydra_plugins` because Hydra finds launchers only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Report, display
from dapa_exp.cli.composer import Composer
from dapa_exp.sweep.isolation import Task, run_isolated
from dapa_exp.sweep.job import Job
from dapa_exp.sweep.on_ray import run_on_ray
from dapa_exp.sweep.slots import slots
from dapa_exp.sweep.submit import Cluster, run_submitted

_SETTINGS: dict[str, dict[str, Any]] = {
    "IsolatedLauncher": {},
    "RayLauncher": {
        "init": {"address": None, "num_cpus": None, "include_dashboard": None, "log_to_driver": False},
        "remote": {"num_cpus": 1, "num_gpus": 0, "resources": {}, "max_retries": 3},
    },
}
for _name, _settings in _SETTINGS.items():
    ConfigStore.instance().store(
        group="hydra/launcher",
        name=_name.removesuffix("Launcher").lower(),
        node={"_target_": f"{__name__}.{_name}", **_settings},
        provider="dapa_exp",
    )


class IsolatedLauncher(Launcher):
    """Returns normally also if runs fail. The reason of a failure is in the run's folder."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        assert isinstance(hydra_context.config_loader, Composer)
        self._planned = hydra_context.config_loader.planned

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        planned = [self._planned[tuple(overrides)] for overrides in job_overrides]
        if planned:
            with display() as report:
                self._carry_out(planned, report)
        return [_returned(overrides) for overrides in job_overrides]

    def _carry_out(self, planned: Sequence[Job], report: Report) -> None:
        _refuse_to_leave(planned)
        run_isolated(_tasks(planned), slots([job.config for job in planned]), report)


class LauncherWithSettings(IsolatedLauncher):
    """Takes settings of the engine that it hands the runs to."""

    def __init__(self, **settings: Any) -> None:
        self._settings = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }


class RayLauncher(LauncherWithSettings):
    def _carry_out(self, planned: Sequence[Job], report: Report) -> None:
        _refuse_to_leave(planned)
        run_on_ray(_tasks(planned), self._settings, report)


class SubmittedLauncher(LauncherWithSettings):
    """Takes the place of Hydra's own submitit launchers, with their settings (see `dapa_exp.cli.launch`)."""

    cluster: Cluster

    def _carry_out(self, planned: Sequence[Job], report: Report) -> None:
        run_submitted(_tasks(planned), self.cluster, self._settings, planned[0].config.runtime.wait, report)


class SlurmLauncher(SubmittedLauncher):
    cluster = "slurm"


class LocalLauncher(SubmittedLauncher):
    cluster = "local"


def _refuse_to_leave(planned: Sequence[Job]) -> None:
    if not planned[0].config.runtime.wait:
        raise DapaError("runtime.wait=false: only jobs that are submitted go on without this command")


def _tasks(planned: Sequence[Job]) -> list[Task]:
    return [Task(job.config, job.folder.absolute()) for job in planned]


def _returned(overrides: Sequence[str]) -> JobReturn:
    returned = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
    returned.return_value = None
    return returned
