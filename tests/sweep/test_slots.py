"""Runs are spread over the GPUs that a sweep may use. A script stands in for NVIDIA's driver."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dapa_exp.config.schema import Config
from dapa_exp.sweep.slots import slots
from tests.settings import quick_config

DRIVER = """#!/bin/sh
echo "0, GPU-aa, 81000"
echo "1, GPU-bb, 1000"
echo "2, GPU-cc, 3000"
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "nvidia-smi"
    program.write_text(DRIVER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def runs(device: str, processes: int | str, count: int = 3) -> list[Config]:
    config = quick_config("pair=mini-llama-small-base")
    runtime = config.runtime.model_copy(update={"device": device, "processes": processes})
    return [config.model_copy(update={"runtime": runtime})] * count


def test_so_many_runs_as_were_asked_for_are_spread_over_all_devices(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slots(runs("cuda", 4)) == ["0", "1", "2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-cc,0")
    assert slots(runs("cuda", 4)) == ["GPU-cc", "0", "GPU-cc", "0"]


def test_several_share_a_device_where_its_free_memory_allows(driver: Path) -> None:
    assert slots(runs("cuda", "auto", count=6)) == ["0", "1", "2", "0", "2", "0"]
    assert slots(runs("cuda", "auto", count=2)) == ["0", "1"]


def test_a_device_of_unknown_memory_takes_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1, MIG-2")
    assert slots(runs("cuda", "auto")) == ["MIG-1", "MIG-2"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert slots(runs("cuda", "auto")) == [None]


@pytest.mark.parametrize("device", ["cuda:1", "auto"])
def test_a_run_that_names_its_devices_is_not_moved(driver: Path, device: str) -> None:
    assert slots(runs(device, 2)) == [None, None]
    assert slots(runs(device, "auto")) == [None]


def test_on_the_cpu_there_are_no_more_than_cores() -> None:
    assert slots(runs("cpu", 3)) == [None] * 3
    assert len(slots(runs("cpu", "auto"))) <= len(os.sched_getaffinity(0))
