"""A search by the fast engine asks the same queries and gets the same scores, in one go and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.config.schema import Config
from dapa_exp.record.identity import identity
from dapa_exp.record.schema import Record
from dapa_exp.run import run
from dapa_exp.search.oracle import Bar
from dapa_exp.zoo.build import build
from dapa_exp.zoo.recipe import find
from tests.settings import quick_config

LINES = ("index", "label", "units", "score", "at_most", "prompts", "verdicts")


@pytest.fixture(scope="module", autouse=True)
def zoo() -> None:
    build(["llama-small-style", find("llama-small-planted").name], silent)


def settings(*words: str) -> Config:
    """Of a run on a planted teacher."""
    teacher = "family.teacher.id=zoo:llama-small-planted"
    return quick_config("pair=mini-llama-small-style", "granularity=mlp", teacher, *words)


def queries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "search.jsonl").read_text().splitlines()]


def result(record: Record) -> dict[str, Any]:
    """A record without what things cost and when they were made."""
    body = record.model_dump(exclude={"cost": True, "provenance": True, "search": {"ledger", "prior"}})
    return {**body, "prior": record.search.prior and record.search.prior.scores}


@pytest.mark.parametrize("search", [("search=ddmin",), ("search=auto", "search.prior=attribution")])
def test_both_engines_find_the_same(tmp_path: Path, search: tuple[str, ...]) -> None:
    plain = run(settings("runtime.engine=plain", *search), tmp_path / "plain", silent)
    fast = run(settings("runtime.engine=fast", *search), tmp_path / "fast", silent)
    assert result(fast) == result(plain)
    assert fast.search.status == "certified"
    ours, theirs = queries(tmp_path / "fast"), queries(tmp_path / "plain")
    assert [[line[key] for key in LINES] for line in ours] == [[line[key] for key in LINES] for line in theirs]
    assert sum(line["cut"] for line in theirs) == 0 < sum(line["cut"] for line in ours)
    assert ours[1]["work"]["draft"] > 0  # of the teacher: there is nothing else to guess from yet
    assert fast.search.ledger.work is not None
    assert plain.search.ledger.work is not None
    assert fast.search.ledger.work.layers < 0.7 * plain.search.ledger.work.layers
    assert fast.search.ledger.work.layers_spared > 0


def test_a_set_that_fails_is_asked_no_more_rows_than_it_takes(tmp_path: Path) -> None:
    stopping = run(settings("search=ddmin"), tmp_path / "stopping", silent)
    asking_all = run(settings("search=ddmin", "search.stop_when_decided=false"), tmp_path / "asking-all", silent)
    assert stopping.search.units_found == asking_all.search.units_found
    assert stopping.search.found_dsr == asking_all.search.found_dsr
    ours, theirs = queries(tmp_path / "stopping"), queries(tmp_path / "asking-all")
    assert [line["units"] for line in ours] == [line["units"] for line in theirs]
    bar = stopping.search.threshold_dsr
    for mine, whole in zip(ours[2:], theirs[2:], strict=True):
        assert (mine["at_most"] < bar) == (whole["score"] < bar)
        assert mine["at_most"] >= whole["score"] == whole["at_most"]
        assert mine["verdicts"].items() <= whole["verdicts"].items()
        assert mine["at_most"] < bar or mine == {**whole, "seconds": mine["seconds"], "work": mine["work"]}
    assert stopping.search.ledger.prompts < 0.8 * asking_all.search.ledger.prompts


def test_a_prior_is_made_from_rows_that_tell(tmp_path: Path) -> None:
    words = ("search=auto", "search.prior=single_swap", "search.prior_rows=3")
    record = run(settings(*words), tmp_path / "run", silent)
    assert record.search.prior is not None
    assert record.search.prior.forwards == 3 * (1 + record.search.units_total)
    without, everything = (line["verdicts"] for line in queries(tmp_path / "run")[:2])
    telling = [row for row in without if without[row] != "refused" and everything[row] == "refused"]
    assert 3 < len(telling) < len(without)
    control = run(settings("search=random", "search.k=2", "search.prior=single_swap"), tmp_path / "control", silent)
    assert control.search.prior is None


def test_a_prior_is_made_from_all_rows_where_none_tells(tmp_path: Path) -> None:
    words = ("search.prior=single_swap", "search.min_gain=0", "transplant=blend", "transplant.alpha=0")
    record = run(settings("search=auto", *words), tmp_path / "run", silent)
    assert record.search.prior is not None
    assert (record.search.status, record.search.units_found) == ("certified", [])


def test_prior_rows_are_part_of_a_runs_identity_where_there_is_a_prior() -> None:
    without, other, few, many = (
        identity(settings(*words))
        for words in (
            ("search.prior_rows=8",),
            ("search.prior_rows=16",),
            ("search.prior=attribution", "search.prior_rows=8"),
            ("search.prior=attribution", "search.prior_rows=16"),
        )
    )
    assert without == other != few != many


def test_an_algorithm_that_compares_failing_sets_asks_them_all_rows(tmp_path: Path) -> None:
    run(settings("search=greedy"), tmp_path / "greedy", silent)
    assert len({line["prompts"] for line in queries(tmp_path / "greedy")}) == 1


def test_a_search_goes_on_where_it_was_killed_with_either_engine(tmp_path: Path) -> None:
    config = settings("runtime.engine=fast", "search=ddmin")
    whole = run(config, tmp_path / "whole", silent)
    for engine in ("fast", "plain"):
        folder = tmp_path / engine
        shutil.copytree(tmp_path / "whole", folder)
        (folder / "record.json").unlink()
        (folder / "found.json").unlink()
        lines = (folder / "search.jsonl").read_text().splitlines(keepends=True)
        (folder / "search.jsonl").write_text("".join(lines[:4]))
        (folder / "generations" / "search.jsonl").unlink()
        again = run(settings(f"runtime.engine={engine}", "search=ddmin"), folder, silent)
        assert result(again) == result(whole)
        kept = [[line[key] for key in LINES] for line in queries(folder)]
        assert kept == [[line[key] for key in LINES] for line in queries(tmp_path / "whole")]


def test_a_resumed_run_keeps_what_its_search_had_found(tmp_path: Path) -> None:
    config = settings("search=deletion", "search.max_seconds=1e-9")
    first = run(config, tmp_path / "short", silent)
    assert len(first.search.units_found) == first.search.units_total
    longer = run(settings("search=deletion"), tmp_path / "long", silent)
    assert len(longer.search.units_found) < longer.search.units_total
    (tmp_path / "short" / "record.json").unlink()
    shutil.copy(tmp_path / "long" / "search.jsonl", tmp_path / "short" / "search.jsonl")  # a search could go on by it
    assert result(run(config, tmp_path / "short", silent)) == result(first)


@pytest.mark.parametrize(("student", "everything", "defended"), [(7, 17, 16), (7, 20, 20)])
def test_a_set_at_the_bar_passes(student: int, everything: int, defended: int) -> None:
    threshold = (defended - student) / (everything - student)
    low, high = student / 48, everything / 48
    bar = Bar(low, high, low + threshold * (high - low))
    assert bar.dsr > defended / 48  # by rounding alone
    assert bar.passes(defended / 48)
    assert not bar.passes((defended - 1) / 48)


def test_the_levers_are_no_part_of_a_runs_identity_in_float32() -> None:
    words = ("runtime.engine=fast", "runtime.reuse_memory=0", "runtime.drafts=false", "runtime.early_verdicts=false")
    assert identity(settings(*words)) == identity(settings("runtime.engine=plain"))


def test_the_engine_is_part_of_a_runs_identity_where_it_cannot_tell_near_ties() -> None:
    fast, plain = (settings(f"runtime.engine={engine}", "runtime.dtype=bfloat16") for engine in ("fast", "plain"))
    assert identity(fast) != identity(plain)
