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
from dapa_exp.search.algorithms.controls import most_telling
from dapa_exp.search.query import Settings
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


def test_a_share_of_the_parameters_is_filled_with_the_most_telling_units(tmp_path: Path) -> None:
    words = ("search=share", "search.prior=single_swap")
    record = run(settings(*words, "search.share=0.2"), tmp_path / "share", silent)
    assert record.search.prior is not None
    size = record.transplant.percent / len(record.search.units_found)
    room = int(20 / size)
    scores = record.search.prior.scores
    assert 0 < len(record.search.units_found) == room < len(scores), "all MLPs are of one size"
    assert set(record.search.units_found) == set(sorted(scores, key=scores.__getitem__)[-room:])
    assert record.search.status == "control"
    whole = settings(*words, "search.share=1", "granularity=everything")
    teacher = run(whole, tmp_path / "whole", silent)
    assert teacher.transplant.percent == 100.0
    assert teacher.evaluate.hybrid.outcomes == teacher.evaluate.teacher.outcomes
    with pytest.raises(ConfigError, match="search=share needs a share of the student's parameters"):
        settings("search=share")


def test_a_unit_that_does_not_fit_is_passed_over() -> None:
    prior, sizes = {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 4, "b": 7, "c": 6}
    for room, expected in ((3, ""), (4, "a"), (10, "ac"), (11, "ab"), (17, "abc")):
        assert most_telling("abc", Settings(prior=prior, parameters=sizes, room=room)) == [frozenset(expected)]


def test_a_pattern_names_all_units_that_several_runs_found(tmp_path: Path) -> None:
    for unit in ("layers.3.mlp", "layers.1.mlp"):
        run(settings("search=given", f"search.units=[{unit}]"), tmp_path / f"found-{unit[7]}", silent)
    both = settings("search=given", f"search.from={tmp_path}/found-*")
    assert identity(both) == identity(settings("search=given", "search.units=[layers.1.mlp,layers.3.mlp]"))
    with pytest.raises(ConfigError, match="no folder has such a name"):
        settings("search=given", f"search.from={tmp_path}/lost-*")
