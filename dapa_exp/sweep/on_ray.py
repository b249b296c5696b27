"""Hands the runs of a sweep to Ray: one task a run, on this machine or on a cluster.

A task carries out its run in a child process, as a sweep on one machine does. Ray starts a task again whose worker or
node was killed, and the run goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from dapa_exp.base.errors import DapaError, one_line
from dapa_exp.base.progress import Progress, Report, silent
from dapa_exp.record.folder import leave_error
from dapa_exp.sweep.isolation import Task, run_isolated
from dapa_exp.sweep.slots import VISIBLE


def run_on_ray(tasks: Sequence[Task], settings: Mapping[str, Any], report: Report) -> None:
    """Carry out every task. `settings.init` goes to `ray.init`, `settings.remote` to `ray.remote`.

    A failed run has an `error.json` in its folder. Raises DapaError if there is no Ray, or a failure could not be
    written.
    """
    try:
        import ray
    except ImportError as error:
        raise DapaError("hydra/launcher=ray needs ray: pip install 'dapa_exp[ray]'") from error
    from ray.exceptions import RayError, RayTaskError

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's makers unless the user says so
    try:
        ray.init(**settings["init"])
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        raise DapaError(f"hydra/launcher: Ray does not start: {one_line(error)}") from error
    unwritten = []
    try:
        begin = ray.remote(**settings["remote"])(_carry_out)
        pending = {begin.remote(task): task for task in tasks}
        report(Progress("runs", 0, len(tasks)))
        while pending:
            (ended,), _ = ray.wait(list(pending))
            task = pending.pop(ended)
            try:
                ray.get(ended)
            except RayTaskError as error:
                unwritten.append(str(error.cause))
            except RayError as error:
                leave_error(task.folder, "ended", f"Ray gave the run up: {one_line(error)}")
            report(Progress("runs", len(tasks) - len(pending), len(tasks), task.config.label))
    finally:
        ray.shutdown()
    if unwritten:
        raise DapaError("\n".join(unwritten))


def _carry_out(task: Task) -> None:
    run_isolated([task], [os.environ.get(VISIBLE)], silent)  # a worker's tasks may get different GPUs
