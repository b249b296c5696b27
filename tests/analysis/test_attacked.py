"""The DSR under attack beside the plain one, from planted records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.report import figures_of, tables_of
from analysis.tables.attacked import attacked_table
from tests.analysis.factory import UNDER, attacked, record, write_sweep


def test_without_attacks_there_is_no_table(tmp_path: Path) -> None:
    frame = load(write_sweep(tmp_path, [record()]))
    assert "attacked" not in {table.name for table in tables_of(frame)}
    assert "attacked" not in figures_of(frame)


def test_each_model_stands_beside_itself_under_attack(tmp_path: Path) -> None:
    frame = load(write_sweep(tmp_path, [attacked(record())]))
    shown: Any = attacked_table(frame).display.set_index("around the request")
    assert shown.loc["plain", "points hybrid"] == "–"
    assert shown.loc["prefix", ["DSR hybrid", "points hybrid"]].tolist() == ["50.0 [35, 65]", "-45.0*"]
    assert shown.loc["prefix", "points teacher"] == "-2.5", "one lost row is no finding"
    assert "attacked" in figures_of(frame)


def test_the_main_comparison_is_of_the_plain_rows_only(tmp_path: Path) -> None:
    plain, under = record(), attacked(record())
    numbers = [load(write_sweep(tmp_path / name, [run])) for name, run in (("a", plain), ("b", under))]
    tables = [{table.name: table.numbers for table in tables_of(frame)} for frame in numbers]
    assert tables[0]["comparisons"].equals(tables[1]["comparisons"])


def test_means_are_over_the_runs_that_were_attacked(tmp_path: Path) -> None:
    runs = [attacked(record("a")), attacked(record("b"), UNDER | {"hybrid": 30}), record("c")]
    numbers = attacked_table(load(write_sweep(tmp_path, runs))).numbers
    mean = numbers[(numbers["pair"] == "mean (n=2)") & (numbers["prompts"] == "prefix")].iloc[0]
    assert mean["hybrid"] == pytest.approx(0.625)
    assert "c" not in set(numbers["pair"])
