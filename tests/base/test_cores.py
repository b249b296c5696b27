"""No more cores are counted than the machine, the job or the container gives, and threads leave them to others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dapa_exp.base import cores as module
from dapa_exp.base.cores import cores


@pytest.fixture(autouse=True)
def sixteen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(module, "GROUPS", tmp_path)
    monkeypatch.setattr(module, "OWN_GROUPS", tmp_path / "own")


def in_groups(place: Path, own: str, files: dict[str, str]) -> None:
    (place / "own").write_text(own)
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)


def test_without_a_limit_all_are_counted(tmp_path: Path) -> None:
    assert cores() == 16
    in_groups(tmp_path, "0::/user\n", {"user/cpu.max": "max 100000\n"})
    assert cores() == 16


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}, 4),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 16),
        ("4:cpu:/docker/1\n", {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_the_quota_of_a_container_is_heeded(tmp_path: Path, own: str, files: dict[str, str], expected: int) -> None:
    in_groups(tmp_path, own, files)
    assert cores() == expected


def test_the_request_of_a_job_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert cores() == 4


@pytest.mark.parametrize("policy", [None, "ACTIVE"])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(policy: str | None) -> None:
    """What torch's OpenMP says of itself."""
    settings = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    settings |= {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": policy} if policy else {})
    command = [sys.executable, "-c", "import dapa_exp, torch"]
    said = subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stderr
    assert f"OMP_WAIT_POLICY = '{policy or 'PASSIVE'}'" in said
