"""The tables that set our numbers beside others': the paper's, and those of another sweep."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis import load
from analysis.measures import mean_change
from analysis.registry import TABLES
from tests.analysis.factory import record, write_settings, write_sweep


def cells(frame: pd.DataFrame, name: str) -> dict[str, list[str]]:
    """The rows of a printed table, by their label."""
    table = TABLES.get(name).make(frame)
    return {row[0]: list(row[1:]) for row in table.display.itertuples(index=False)}


def test_the_papers_numbers_stand_beside_our_means_with_their_sources(tmp_path: Path) -> None:
    frame = load(write_sweep(tmp_path, [record("a", hybrid=0.8, percent=6.0), record("b", hybrid=0.9, percent=7.0)]))
    rows = cells(frame, "paper")
    ours, runs, theirs = rows["gain in DSR (points)"]
    assert (ours.split(" ")[0], runs, theirs) == ("+80.00", "2", "+14.41 [1]")
    assert rows["parameters moved (%)"][0].startswith("6.50 [")
    assert rows["largest gain in DSR (points)"] == ["+85.00", "2", "+51.39 [2]"]
    assert rows["search queries"] == ["20.0", "2", ""]  # the paper reports none
    assert 'abstract ("approximately 14.41%")' in TABLES.get("paper").make(frame).notes[0]


def test_a_single_run_has_no_mean_beside_the_papers(tmp_path: Path) -> None:
    assert not TABLES.get("paper").shows(load(write_sweep(tmp_path, [record("a")])))


def sweep(folder: Path, hybrid: float, seed: int, pairs: str = "ab") -> Path:
    runs = [record(pair, hybrid=hybrid, queries=10 * seed, identity=f"{pair}{seed}".ljust(64, "0")) for pair in pairs]
    write_sweep(folder, runs)
    for run in runs:
        write_settings(folder, run, {"search": {"seed": seed}, "judge": {"name": "phrases"}})
    return folder


def test_two_sweeps_are_compared_over_the_pairs_that_both_have(tmp_path: Path) -> None:
    before, after = sweep(tmp_path / "before", 0.5, 1), sweep(tmp_path / "after", 0.9, 2, "abc")
    frame = load([before, after])
    table, rows = TABLES.get("sweeps").make(frame), cells(frame, "sweeps")
    assert list(table.display.columns[1:]) == ["before", "after", "difference [95 %]"]
    assert rows["runs done"][:2] == ["2/2", "3/3"]
    assert rows["DSR hybrid (%)"][0].startswith("50.0 [")
    assert rows["DSR hybrid (%)"][2].startswith("+40.0 [")
    assert rows["search queries"] == ["10.0", "20.0", "+10.0"]
    assert "the 2 runs that all sweeps have" in table.caption
    assert "Settings that differ: search.seed (1 | 2)." in table.caption


def test_sweeps_without_a_common_pair_are_not_compared(tmp_path: Path) -> None:
    frame = load([sweep(tmp_path / "one", 0.5, 1, "a"), sweep(tmp_path / "other", 0.5, 2, "b")])
    assert not TABLES.get("sweeps").shows(frame)


def test_the_interval_of_a_mean_change_is_at_least_that_of_its_rows(tmp_path: Path) -> None:
    alike = load(write_sweep(tmp_path, [record(pair) for pair in "abcd"]))
    change = mean_change(alike, "dsr")
    assert change is not None
    assert (change.value, change.n) == (pytest.approx(90.0), 4)
    assert change.low is not None
    assert change.low < 87  # pairs that are alike do not make it smaller
    assert mean_change(alike, "word_perplexity") is None
