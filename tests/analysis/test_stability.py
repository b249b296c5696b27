from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.report import tables_of
from analysis.tables.stability import stability_table
from dapa_exp.record.schema import Record
from tests.analysis.factory import record, write_settings, write_sweep


def draw(seed: int, units: list[str], pair: str = "a", **options: Any) -> Record:
    return record(pair, identity=f"{pair}{seed}".ljust(64, "0"), sample_seed=seed, units_found=units, **options)


def test_agreement_over_draws_is_the_mean_jaccard_of_all_pairs(tmp_path: Path) -> None:
    draws = [draw(1, ["u", "v"], non_monotone=2), draw(2, ["u", "v"]), draw(3, ["u", "w", "x"], non_monotone=1)]
    (row,) = stability_table(load([write_sweep(tmp_path, draws)])).numbers.to_dict("records")
    assert row["jaccard"] == pytest.approx((1 + 1 / 4 + 1 / 4) / 3)
    assert (row["always"], row["ever"]) == ("u", 4)
    assert (row["smallest"], row["largest"], row["draws"]) == (2, 3, 3)
    assert row["non_monotone"] == pytest.approx(1.0)


def test_only_searches_that_were_repeated_are_in_the_table(tmp_path: Path) -> None:
    runs = load([write_sweep(tmp_path, [draw(1, ["u"]), draw(2, ["u"]), draw(1, ["u"], pair="b"), record("c")])])
    assert list(stability_table(runs).display["pair"]) == ["a"]


def test_runs_with_the_same_draw_are_no_other_draws(tmp_path: Path) -> None:
    again = record("a", identity="f" * 64, sample_seed=1, units_found=["w"])
    alone = load([write_sweep(tmp_path / "alone", [draw(1, ["u"]), again])])
    assert "stability" not in [table.name for table in tables_of(alone)]
    with_another = load([write_sweep(tmp_path / "another", [draw(1, ["u"]), again, draw(2, ["u"])])])
    (row,) = stability_table(with_another).numbers.to_dict("records")
    assert (row["draws"], row["jaccard"]) == (2, 1.0)


def test_draws_are_compared_where_all_other_settings_are_the_same(tmp_path: Path) -> None:
    found = {(0.9, 1): "u v", (0.5, 1): "u", (0.5, 2): "u", (0.9, 2): "u v", (0.1, 1): "w"}
    runs = [
        record("a", identity=str(i) * 64, sample_seed=seed, units_found=units.split())
        for i, ((_, seed), units) in enumerate(found.items())
    ]
    sweep = write_sweep(tmp_path, runs)
    for (bar, seed), run in zip(found, runs, strict=True):
        write_settings(sweep, run, {"dataset": {"search": {"sample_seed": seed}}, "search": {"threshold": bar}})
    table = stability_table(load([sweep]))
    shown = table.display[["search.threshold", "draws", "Jaccard", "set sizes"]].to_numpy().tolist()
    assert shown == [["0.9", "2", "1.00", "2–2"], ["0.5", "2", "1.00", "1–1"]]
    assert table.labels == 4


def test_without_repeats_there_is_no_such_table(tmp_path: Path) -> None:
    runs = load([write_sweep(tmp_path, [record("a"), draw(1, ["u"], pair="b")])])
    assert "stability" not in [table.name for table in tables_of(runs)]
