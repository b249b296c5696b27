from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console

from analysis import load
from analysis.report import tables_of
from analysis.tables.ablation import ablation_table, differences_table
from analysis.tables.search_cost import search_cost_table
from analysis.tables.utility import utility_table
from tests.analysis.factory import record, write_failure, write_settings, write_sweep

PAIRS = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]


def test_granularities_are_columns_in_the_papers_order_and_families_rows(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path,
        [
            record("a", "x", granularity="layer", hybrid=0.9, found=1),
            record("b", "x", granularity="layer", hybrid=0.8, found=2),
            record("a", "x", granularity="gate_proj", hybrid=0.05, found=8, status="no_gain"),
            record("b", "x", granularity="gate_proj", hybrid=0.45, found=4, percent=3.0),
            record("c", "y", granularity="layer", hybrid=0.7, found=3),
            record("c", "y", granularity="gate_proj", hybrid=0.05, found=8, status="no_gain"),
        ],
    )
    table = ablation_table(load([sweep]), by="family")
    display = table.display
    assert (table.labels, table.rules) == (2, [9])
    assert "no gain: runs in which every unit" in table.caption
    assert list(display.columns) == ["family (pairs)", "hybrid", "gate_proj", "layer"]
    assert list(display["family (pairs)"][::9]) == ["x (2)", "all (3)"], "one run has no mean"
    assert list(display["hybrid"][:6]) == [
        *("DSR, %", "95 % interval", "gain, points", "units found", "parameters, %", "no gain")
    ]
    assert list(display["layer"][:6])[::2] == ["85.0", "+80.0", "6.25"]
    assert list(display["gate_proj"][:6])[::2] == ["25.0", "+20.0", "3.00"]
    assert list(display["gate_proj"][3:6]) == ["4/8", "3.00", "1/2"]
    assert display["layer"][9] == "80.0"
    assert list(display["hybrid"][6:9]) == ["− gate_proj", "its interval", "p, Holm"]
    assert list(display["gate_proj"][6:9]) == ["–"] * 3
    assert display["layer"][6] == "+60.0"


def test_granularities_are_compared_over_the_pairs_that_they_share(tmp_path: Path) -> None:
    """Three pairs of an ablation beside twenty of a sweep: the means must be of the same pairs, each counted once."""
    first = [record(f"p{i}", granularity=g, hybrid=h) for i in range(3) for g, h in (("gate_proj", 0.5), ("mlp", 0.6))]
    others = [record(f"p{i}", granularity="mlp", hybrid=1.0) for i in range(3, 20)]
    ablation = write_sweep(tmp_path / "ablation", first)
    sweep = write_sweep(tmp_path / "sweep", [*(run for run in first if run.search.granularity == "mlp"), *others])
    frame = load([ablation, sweep])
    assert frame["identity"].nunique() == 23
    table = ablation_table(frame, by="family")
    assert table.display["family (pairs)"].iloc[0] == "mini-llama (3 of 20)"
    assert table.display[["gate_proj", "mlp"]].iloc[0].tolist() == ["50.0", "60.0"]
    assert table.numbers.set_index("granularity")["n"].to_dict() == {"gate_proj": 3, "mlp": 3}
    (row,) = differences_table(frame).numbers.to_dict("records")
    assert (row["pairs"], row["difference_points"]) == (3, pytest.approx(-10.0))
    assert row["low"] < -10.0 < row["high"], "pairs that happen to be alike are not certain"


def test_granularities_of_which_no_setting_has_two_pairs_are_not_compared(tmp_path: Path) -> None:
    """They have two pairs in common, but one granularity of another search."""
    kinds = (("mlp", "auto"), ("layer", "ddmin"))
    runs = [record(pair, granularity=part, search=search) for pair in "ab" for part, search in kinds]
    names = [table.name for table in tables_of(load([write_sweep(tmp_path, runs)]))]
    assert "ablation_pairs" in names
    assert "ablation_differences" not in names


def test_the_ablation_comes_before_its_appendices(tmp_path: Path) -> None:
    runs = [record(pair, granularity=part) for pair in "ab" for part in ("mlp", "layer")]
    names = [table.name for table in tables_of(load([write_sweep(tmp_path, runs)]))]
    assert names[:3] == ["ablation", "ablation_differences", "main"]
    assert names.index("ablation_pairs") < names.index("utility")


def test_the_six_granularities_fit_a_console_of_100_columns(tmp_path: Path) -> None:
    parts = ["gate_proj", "up_proj", "down_proj", "mlp", "attention", "layer"]
    runs = [record(pair, "mini-mistral", granularity=part, hybrid=1.0) for pair in "ab" for part in parts]
    console = Console(file=io.StringIO(), width=100)
    ablation_table(load([write_sweep(tmp_path, runs)]), by="family").print(console)
    assert isinstance(console.file, io.StringIO)
    heading = console.file.getvalue().splitlines()[1].split()
    assert heading == ["family", "(pairs)", "hybrid", *parts]


def test_columns_are_in_the_papers_order_and_not_by_name(tmp_path: Path) -> None:
    parts = ["layer", "attention", "down_proj", "mine", "up_proj"]
    sweep = write_sweep(tmp_path, [record("a", granularity=part) for part in parts])
    columns = list(ablation_table(load([sweep]), by="pair").display.columns)
    assert columns == ["pair", "hybrid", "up_proj", "down_proj", "attention", "layer", "mine"]


def test_searches_of_an_ablation_are_blocks_of_their_own(tmp_path: Path) -> None:
    runs = [
        record(pair, family, granularity=part, search=search, hybrid=dsr)
        for search, dsr in (("ddmin", 0.9), ("auto", 0.5))
        for pair, family in (("a", "x"), ("b", "y"))
        for part in ("mlp", "layer")
    ]
    table = ablation_table(load([write_sweep(tmp_path / "two", runs)]), by="family")
    blocks = table.display.loc[::8, ["family (pairs)", "search", "mlp"]].to_numpy().tolist()
    assert blocks == [["all (2)", "ddmin", "90.0"], ["all (2)", "auto", "50.0"]]
    two_families = [record(pair, family, granularity=part) for pair, family in PAIRS for part in ("mlp", "layer")]
    by_family = ablation_table(load([write_sweep(tmp_path / "families", two_families)]), by="family")
    assert list(by_family.display["family (pairs)"][::8]) == ["x (2)", "y (2)", "all (4)"]


def test_missing_runs_of_an_ablation_are_marked_with_their_reason(tmp_path: Path) -> None:
    failed, missing = record("b", granularity="layer"), record("c", granularity="layer")
    done = [record("a"), record("b"), record("c"), *(record(pair, granularity="layer") for pair in "ad"), record("d")]
    sweep = write_sweep(tmp_path, done, [failed, missing])
    write_failure(sweep, failed, "boom")
    by_family = ablation_table(load([sweep]), by="family")
    assert by_family.display["layer"][0] == "95.0 [1]"
    assert by_family.display["family (pairs)"][0] == "mini-llama (2 of 4)"
    assert by_family.notes == ["[1] mini-llama, layer: b failed (search: boom); c missing (not started)"]
    by_pair = ablation_table(load([sweep]), by="pair")
    assert by_pair.name == "ablation_pairs"
    assert list(by_pair.display["layer"][[0, 5, 10]]) == ["95.0", "failed [1]", "missing [2]"]
    assert by_pair.display[by_pair.display["hybrid"] == "95 % interval"]["layer"].tolist()[0] == "[91, 99]"
    assert by_pair.numbers.set_index(["pair", "granularity"]).loc[("a", "layer"), "hybrid_dsr"] == 0.95


def test_a_granularity_nobody_asked_for_is_a_dash(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("b", granularity="layer")])
    table = ablation_table(load([sweep]), by="pair")
    assert list(table.display["layer"][:5]) == ["–"] * 5
    assert table.notes == []


def test_settings_that_were_swept_are_blocks_of_an_ablation(tmp_path: Path) -> None:
    found = {("mlp", 0.5): 0.1, ("mlp", 0.9): 0.2, ("layer", 0.5): 0.3, ("layer", 0.9): 0.4}
    runs = [record("a", granularity=unit, identity=f"{bar}{unit}", hybrid=dsr) for (unit, bar), dsr in found.items()]
    sweep = write_sweep(tmp_path, runs)
    for (_, bar), run in zip(found, runs, strict=True):
        write_settings(sweep, run, {"search": {"threshold": bar}})
    table = ablation_table(load([sweep]), by="pair")
    assert "averaged" not in table.caption
    shown = table.numbers.set_index(["granularity", "search.threshold"])["hybrid_dsr"].to_dict()
    assert shown == pytest.approx({(unit, str(bar)): dsr for (unit, bar), dsr in found.items()})


@pytest.mark.parametrize("by", ["family", "pair"])
def test_runs_that_no_column_tells_apart_are_said_to_be_averaged(tmp_path: Path, by: Literal["family", "pair"]) -> None:
    runs = [record("a", hybrid=0.9, identity="1" * 64), record("a", hybrid=0.7, identity="2" * 64)]
    averaged = ablation_table(load([write_sweep(tmp_path / "two", runs)]), by=by)
    assert averaged.display["mlp"][0].startswith("80.0")
    assert "are averaged" in averaged.caption
    assert "are averaged" not in ablation_table(load([write_sweep(tmp_path / "one", runs[:1])]), by=by).caption


def test_cost_by_algorithm_and_its_ratio_to_ddmin_on_the_same_pairs(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path,
        [
            record("a", queries=20),
            record("b", queries=40),
            record("a", search="random", queries=5, status="control"),
            record("c", search="random", queries=500, status="control"),
        ],
        [record("d")],
    )
    table = search_cost_table(load([sweep]))
    ddmin, random = (row for _, row in table.display.iterrows())
    assert (ddmin["search"], ddmin["runs done"], ddmin["certified"]) == ("ddmin", "2/3", "2/2")
    assert ddmin["queries"].startswith("30 [")
    assert ddmin["tokens"] == "12,000"
    assert random["queries"].startswith("252 [")
    assert random["queries"].endswith("(×0.25)")
    assert random["certified"] == "0/2"
    assert table.numbers["ratio_seconds"][1] == pytest.approx(0.25)
    assert "4 of 5 runs done." in table.caption
    assert "×: as a multiple of ddmin's" in table.caption


@pytest.mark.parametrize("made_here", [True, False])
def test_tables_of_models_made_here_say_that_they_are_no_evidence(tmp_path: Path, made_here: bool) -> None:
    runs = load([write_sweep(tmp_path, [record("a", made_here=made_here), record("b", made_here=made_here)])])
    tables = (ablation_table(runs, by="pair"), search_cost_table(runs), utility_table(runs))
    assert all(("made here: " in table.caption) == made_here for table in tables)


def test_ratios_do_not_depend_on_how_many_runs_a_pair_has(tmp_path: Path) -> None:
    done = [record("a", queries=20), *(record("a", search="auto", queries=10, identity=i * 64) for i in "12")]
    sweep = write_sweep(tmp_path, [*done, record("b", search="auto", queries=500)])
    assert search_cost_table(load([sweep])).numbers.set_index("search")["ratio_queries"]["auto"] == 0.5


def test_searches_with_and_without_a_prior_are_told_apart(tmp_path: Path) -> None:
    primed = [record(pair, search="auto", prior="attribution", queries=8, identity=pair * 64) for pair in "abc"]
    done = [record("a", queries=20), record("a", search="auto", queries=10), *primed[:2]]
    table = search_cost_table(load([write_sweep(tmp_path, done, [primed[2]])]))
    shown: Any = table.display.set_index("search")[["runs done", "queries"]]
    assert shown.loc["auto"].tolist() == ["1/1", "10 (×0.50)"]
    assert shown.loc["auto+attribution"].tolist() == ["2/3", "8 (×0.40)"]


def test_ratios_compare_like_with_like(tmp_path: Path) -> None:
    done = [
        record("a", granularity="layer", queries=10),
        record("a", granularity="layer", search="auto", queries=5),
        record("a", granularity="mlp", search="auto", queries=5),
    ]
    table = search_cost_table(load([write_sweep(tmp_path, done)]))
    shown = table.display.set_index(["granularity", "search"])["queries"]
    assert shown.to_dict() == {("layer", "ddmin"): "10", ("layer", "auto"): "5 (×0.50)", ("mlp", "auto"): "5"}


def test_costs_of_settings_that_were_swept_are_told_apart_and_those_of_draws_are_not(tmp_path: Path) -> None:
    costs = {("ddmin", 0.5): 20, ("ddmin", 0.9): 40, ("auto", 0.5): 10, ("auto", 0.9): 30}
    runs = [
        (record("a", search=name, queries=cost + seed, identity=f"{bar}{seed}{name}".ljust(64, "0")), bar, seed)
        for (name, bar), cost in costs.items()
        for seed in (0, 2)
    ]
    sweep = write_sweep(tmp_path, [run for run, _, _ in runs])
    for run, bar, seed in runs:
        write_settings(sweep, run, {"search": {"threshold": bar, "seed": seed}})
    table = search_cost_table(load([sweep]))
    assert table.labels == 2
    shown: Any = table.display.set_index(["search", "search.threshold"])[["runs done", "queries"]]
    assert shown.loc[("auto", "0.5")].tolist() == ["2/2", "11 [0, 23.7] (×0.52)"]
    assert shown.loc[("auto", "0.9")].tolist() == ["2/2", "31 [18.3, 43.7] (×0.76)"]
