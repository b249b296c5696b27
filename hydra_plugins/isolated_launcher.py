"""The Hydra launcher for a sweep on one machine. It carries out each run in a child process.

It is in the namespace package `hydra_plugins` because Hydra finds launchers only there.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from dapa_exp.base.progress import display
from dapa_exp.cli.composer import Composer
from dapa_exp.sweep.isolation import Task, run_isolated

ConfigStore.instance().store(
    group="hydra/launcher",
    name="isolated",
    node={"_target_": "hydra_plugins.isolated_launcher.IsolatedLauncher"},
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
            tasks = [Task(job.config, job.folder.absolute()) for job in planned]
            with display() as report:
                run_isolated(tasks, planned[0].config.runtime.processes, report)
        return [_returned(overrides) for overrides in job_overrides]


def _returned(overrides: Sequence[str]) -> JobReturn:
    returned = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
    returned.return_value = None
    return returned
