"""The Hydra launcher of a sweep on one machine: skips runs with nothing left to do and isolates the others.

Hydra finds launchers in the namespace package `hydra_plugins` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from dapa_exp.base.progress import display
from dapa_exp.cli.compose import typed
from dapa_exp.record.layout import RunLayout
from dapa_exp.sweep.isolation import Task, run_isolated

ConfigStore.instance().store(
    group="hydra/launcher",
    name="isolated",
    node={"_target_": "hydra_plugins.isolated_launcher.IsolatedLauncher"},
    provider="dapa_exp",
)


class IsolatedLauncher(Launcher):
    """Ends normally whatever becomes of the runs: what failed, and why, is in their folders."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._loader = hydra_context.config_loader
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        tasks: dict[Path, Task] = {}  # the same run asked for twice is one
        returns: list[JobReturn] = []
        processes = 1
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            cfg = self._loader.load_sweep_config(self._config, list(overrides))
            with open_dict(cfg):
                cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
            folder = (Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir).absolute()
            returned = JobReturn(overrides=list(overrides), working_dir=str(folder), status=JobStatus.COMPLETED)
            returned.return_value = None
            returns.append(returned)
            wanted = not RunLayout(folder).record.is_file() or cfg.record.wandb != "off"  # which is sent once only
            if wanted and folder not in tasks:
                tasks[folder] = Task(typed(cfg), folder)
                processes = tasks[folder].config.runtime.processes
        if tasks:
            with display() as report:
                run_isolated(list(tasks.values()), processes, report)
        return returns
