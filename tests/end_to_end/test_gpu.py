"""`make gpu` end to end on the CPU: a tiny shape, and only the packages that a bare GPU machine and its wheels have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

WHEELS = Path(__file__).parents[1] / "benchmarks" / "gpu-packages.txt"
OURS = ("analysis", "dapa_exp", "hydra_plugins", "tests")
WITHOUT = """
import runpy, sys
from importlib.machinery import PathFinder

absent = set(sys.argv.pop(1).split(","))

class Others(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Others
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_module("tests.benchmarks.gpu", run_name="__main__")
"""


def needed_by(*names: str) -> set[str]:
    """These distributions, and all that they need."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in found:
            found.add(name)
            todo += [need.name for need in needs_of(name) if not need.marker or need.marker.evaluate({"extra": ""})]
    return found


def needs_of(name: str) -> list[Requirement]:
    try:
        return [Requirement(need) for need in requires(name) or []]
    except PackageNotFoundError:  # such as the parts of CUDA, where torch was built for the CPU
        return []


def absent() -> list[str]:
    """The modules that are installed here, but neither on a bare GPU machine nor in the wheel folder."""
    wheels = [line for line in WHEELS.read_text().splitlines() if not line.startswith("#")]
    there = needed_by("torch", "transformers") | {*wheels}
    return [
        module
        for module, owners in packages_distributions().items()
        if module not in OURS and not there & {canonicalize_name(owner) for owner in owners}
    ]


def test_a_tiny_shape_on_the_cpu_finds_the_known_set(tmp_path: Path) -> None:
    file, work = tmp_path / "gpu.json", tmp_path / "work"
    words = ["--smoke", "--json", str(file), "--work", str(work), "--stages", "known,enlarge,plain,fast,compare,report"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, ",".join(absent()), *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert not [row for row in result["rows"] if "error" in row or "skipped" in row]
    targets = {target["name"]: target for target in result["targets"]}
    for engine in ("plain", "fast"):
        for claim in ("certified", "no dead layer found", "the miniature's set found"):
            assert targets[f"tiny-llama: {engine}: {claim}"]["measured"] == 1
    stages = next(row for row in result["rows"] if row["stage"] == "plain")["by_stage"]
    assert {"teacher", "search", "student", "transplant", "hybrid", "random"} <= set(stages)
    assert all(0 <= stage["roofline"] < 1 for stage in stages.values())
    assert stages["search"]["generated"] > 0
    assert not work.exists(), "models of real size are not left behind"


def test_what_was_measured_before_an_end_from_outside_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    words = ["--smoke", "--json", str(file), "--minutes", "0", "--stages", "known,enlarge"]
    subprocess.run([sys.executable, "-m", "tests.benchmarks.gpu", *words], check=True, capture_output=True)
    rows = json.loads(file.read_text())["rows"]
    assert [row["skipped"] for row in rows] == ["no time left"] * len(rows)
