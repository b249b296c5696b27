"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """The cores of this machine that this process may use.

    Less than all by its affinity (`taskset`, SLURM), by its job's request (SLURM's `--cpus-per-task`), or by the quota
    of its control groups (docker's `--cpus`, Kubernetes): a part of a core counts as one.
    """
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    requested = [float(asked)] if asked.isdigit() else []
    return max(1, math.ceil(min([len(os.sched_getaffinity(0)), *requested, *_quotas()])))


def _quotas() -> Iterator[float]:
    """The cores that each control group of this process allows, in both versions of Linux's interface."""
    with suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                yield from _quotas_up_to(GROUPS / ("cpu" if controllers else ""), path)


def _quotas_up_to(top: Path, path: str) -> Iterator[float]:
    """The cores that the control group at a path below `top` allows, and each group that it lies in."""
    group = top / path.lstrip("/")
    for place in (group, *group.parents):
        if place.is_relative_to(top):
            yield from _quota(place)


def _quota(group: Path) -> Iterator[float]:
    """The cores that a control group allows; nothing if it does not say."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if quota != "max" and float(quota) > 0:
            yield float(quota) / float(period)
