"""`search=given`: a set of one's own, or one that another run found."""

from __future__ import annotations

from pathlib import Path

import pytest

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import Progress, silent
from dapa_exp.config.problems import ConfigError
from dapa_exp.config.schema import Config
from dapa_exp.record.identity import identity
from dapa_exp.run import run
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find
from tests.settings import quick_config


@pytest.fixture(scope="module", autouse=True)
def zoo() -> None:
    build(["llama-small-style", find("llama-small-planted").name], silent)


def settings(*words: str) -> Config:
    teacher = "family.teacher.id=zoo:llama-small-planted"
    return quick_config("pair=mini-llama-small-style", "granularity=mlp", teacher, *words)


def test_a_set_of_ones_own_is_measured_and_another_run_can_take_it_over(tmp_path: Path) -> None:
    named = settings("search=given", "search.units=[layers.4.mlp,layers.3.mlp]")
    first = run(named, tmp_path / "named", silent)
    assert first.search.units_found == ["layers.3.mlp", "layers.4.mlp"]
    assert (first.search.status, first.search.ledger.queries) == ("control", 3)
    taken = settings("search=given", f"search.from={tmp_path / 'named'}")
    assert identity(taken) == identity(named), "it is the same set, wherever it was found"
    other = settings("search=given", f"search.from={tmp_path / 'named'}", "granularity=gate_proj")
    with pytest.raises(DapaError, match=r"search\.from=.*named: there is no unit 'layers\.3\.mlp' at this granularity"):
        run(other, tmp_path / "other", silent)
    with pytest.raises(DapaError, match=r"search\.units: there is no unit 'layers\.33.*Did you mean 'layers\.3\.mlp'"):
        run(settings("search=given", "search.units=[layers.33.mlp]"), tmp_path / "wrong", silent)


def test_a_set_is_needed_and_only_one_and_only_where_it_is_taken(tmp_path: Path) -> None:
    for words, message in (
        (("search=given",), "search=given needs a set"),
        (("search=given", "search.units=[layers.1.mlp]", "search.from=x"), "both name a set"),
        (("search=auto", "search.units=[layers.1.mlp]"), "search=auto takes neither units nor from"),
        (("search=given", f"search.from={tmp_path}"), "no record.json"),
    ):
        with pytest.raises(ConfigError, match=message):
            settings(*words)


def test_what_becomes_of_the_papers_layers_is_said(tmp_path: Path) -> None:
    said: list[Progress] = []
    record = run(settings("search=fixed", "family.paper_layers=[2,5]"), tmp_path / "run", said.append)
    assert record.search.units_found == ["layers.0.mlp"]
    note = "family.paper_layers 2-5 of 32 layers are 0-0 of this pair's 8; search=given takes layers of your own"
    assert note in [progress.note for progress in said]
