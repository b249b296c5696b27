"""An algorithm, a prior and a transplant method, each in one file of the user's own, from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find
from tests.settings import quick

ALGORITHM = '''
from dapa_exp.search.algorithm import ALGORITHMS, Reduction
from dapa_exp.search.problem import Problem


def backwards(problem: Problem) -> frozenset[str]:
    """Drops the last item for as long as what is left passes."""
    while len(problem.best) > 1 and problem.passes(problem.remaining()[:-1], "shorter"):
        pass
    return problem.best


ALGORITHMS.register("backwards", Reduction(backwards, title="Drops the last unit while that passes."))
'''
PRIOR = """
from dapa_exp.config.registries import PRIORS


def alphabet(evidence):
    return {unit: float(place) for place, unit in enumerate(sorted(evidence.pair.units))}


PRIORS.register("alphabet", alphabet)
"""
METHOD = '''
from typing import Literal

from dapa_exp.config.registries import METHODS, MethodSettings
from dapa_exp.transplant.methods.contract import Method


class Scaled(Method):
    """The teacher's tensor times a factor."""

    class Settings(MethodSettings):
        method: Literal["scaled"]
        factor: float = 1.0

    def __init__(self, pair, factor):
        super().__init__(pair)
        self._factor = factor

    def _computed(self, unit, part, student):
        return self._pair.teacher.read(part) * self._factor


METHODS.register("scaled", Scaled)
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for --config-dir."""
    build(["llama-small-style", find("llama-small-planted").name], silent)
    (tmp_path / "own" / "plugins").mkdir(parents=True)
    for name, text in {"backwards": ALGORITHM, "alphabet": PRIOR, "scaled_method": METHOD}.items():
        (tmp_path / "own" / "plugins" / f"{name}.py").write_text(text)
    (tmp_path / "own" / "train.py").write_text("raise SystemExit('a file that is none of our business was run')\n")
    return tmp_path / "own"


def dapa(*words: str) -> subprocess.CompletedProcess[str]:
    """By a process of its own, since what is registered stays registered."""
    return subprocess.run([sys.executable, "-m", "dapa_exp", *words], capture_output=True, text=True, timeout=300)


def test_a_file_each_is_all_that_an_algorithm_a_prior_and_a_method_take(own: Path, tmp_path: Path) -> None:
    words = (
        *quick("pair=mini-llama-small-style", "family.teacher.id=zoo:llama-small-planted", f"record.dir={tmp_path}"),
        *(f"--config-dir={own}", "search=backwards", "search.prior=alphabet", "transplant=scaled"),
    )
    planned = dapa("plan", *words[1:])
    assert planned.returncode == 0, planned.stderr
    assert "unknown" in planned.stdout, "nobody has said how many queries it takes"
    done = dapa(*words, "-m")  # in a child process
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*/*/record.json")
    record = json.loads(file.read_text())
    assert (record["search"]["algorithm"], record["transplant"]["method"]) == ("backwards", "scaled")
    scores = record["search"]["prior"]["scores"]
    assert scores == {unit: float(place) for place, unit in enumerate(sorted(scores))}
    assert record["search"]["units_found"] == sorted(scores)[: len(record["search"]["units_found"])]
    wrong = dapa("plan", f"--config-dir={own}", "search=backward", "transplant=scaled", "transplant.factr=2")
    assert "Did you mean 'backwards'?" in wrong.stderr
    assert "Did you mean 'factor'?" in wrong.stderr
    shown = dapa("run", f"--config-dir={own}", "--help").stdout
    assert "backwards" in shown
    assert "scaled" in shown


def test_a_config_is_read_without_torch() -> None:
    code = (
        "import sys; from dapa_exp.cli.compose import jobs;"
        "jobs(['search=prior', 'transplant=blend']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr
