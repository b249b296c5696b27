from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.tables.main import main_table
from analysis.tables.table import Table
from dapa_exp.evaluate.statistics import rate
from dapa_exp.record.evaluation import Defence, Outcomes
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record, SetRecord
from tests.analysis.factory import record, write_failure, write_settings, write_sweep

UNITS = {"mlp": 0.95, "gate_proj": 0.5}


def table_of(folder: Path, done: list[Record], missing: list[Record] | None = None) -> Table:
    return main_table(load([write_sweep(folder / "miniature", done, missing)]))


def cells(table: Table, label: str) -> dict[str, str]:
    """The printed row of a label."""
    rows = table.display[table.display["pair"] == label]
    assert len(rows) == 1, list(table.display["pair"])
    return {str(name): str(cell) for name, cell in rows.iloc[0].items()}


def test_planted_numbers_are_printed_in_their_places(tmp_path: Path) -> None:
    numbers = {"student": 0.05, "hybrid": 0.92, "found": 3, "total": 12, "percent": 6.256, "queries": 21}
    run = record("a", **numbers, perplexity=5.125, over_refusal=0.02, reasoning=0.88)  # type: ignore[arg-type]
    table = table_of(tmp_path, [run, record("b")])
    assert cells(table, "a †") == {
        "pair": "a †",
        "DSR student (%)": "5.0 [1, 9]",
        "DSR hybrid (%)": "92.0 [88, 96]",
        "DSR teacher (%)": "100.0 [96, 100]",
        "gain (points)": "+87.0*",
        "DSR random-k (%)": "10.0",
        "search DSR: found / everything / bar (%)": "92.0 / 100.0 / 90.0",
        "search − report DSR (points)": "+0.0",
        "units found": "3/12",
        "parameters moved (%)": "6.26",
        "perplexity change": "+0.12",
        "reasoning change (points)": "-2.0",
        "over-refusal (%)": "0.0 → 2.0",
        "search queries": "21",
        "search seconds": "10.5",
        "P(DSR≥bar)": "0.500",
        "certified": "yes",
    }
    assert table.numbers["over_refusal_change_points"][0] == pytest.approx(2.0)


def test_means_are_over_runs_of_a_family_and_over_all(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        [record("a", "x", hybrid=0.9), record("b", "x", hybrid=0.8), record("c", "y", hybrid=0.4, queries=50)],
    )
    assert cells(table, "mean x (n=2) †")["DSR hybrid (%)"].startswith("85.0 [")
    assert not any(label.startswith("mean y") for label in table.display["pair"]), "one run has no mean"
    overall = cells(table, "mean of all (n=3) †")
    assert overall["DSR hybrid (%)"].startswith("70.0 [")
    assert overall["search queries"].startswith("30 [")
    means = table.numbers[table.numbers["row"] == "mean"]
    assert means["gain_points"].item() == pytest.approx(65.0)


def test_the_papers_mean_stands_beside_ours_and_is_empty_where_unknown(tmp_path: Path) -> None:
    table = table_of(tmp_path, [record("a"), record("b")])
    row = cells(table, "paper, real models (n=17)")
    known = {name: cell for name, cell in row.items() if cell and name != "pair"}
    assert known == {
        "gain (points)": "+14.41",
        "parameters moved (%)": "6.26",
        "perplexity change": "≈1.69",
        "reasoning change (points)": "≈2.59",
    }
    assert "+51.39" in table.caption
    assert table.numbers.loc[table.numbers["row"] == "paper", "gain_points"].item() == 14.41


def test_unfinished_runs_are_rows_with_a_reason_and_are_in_no_mean(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("d")], [record("b"), record("c")])
    write_failure(sweep, record("b"), "out of memory")
    table = main_table(load([sweep]))
    assert cells(table, "b")["certified"] == "failed [1]"
    assert cells(table, "b")["DSR hybrid (%)"] == "–"
    assert cells(table, "c")["certified"] == "missing [2]"
    assert table.notes == ["[1] b: search: out of memory", "[2] c: not started"]
    assert "2 of 4 runs done" in table.caption
    assert cells(table, "mean of all (n=2) †")["DSR hybrid (%)"].startswith("95.0 [")


def test_nothing_done_is_still_a_table(tmp_path: Path) -> None:
    table = table_of(tmp_path, [], [record("a"), record("b")])
    assert cells(table, "a")["certified"] == "missing [1]"
    assert "0 of 2 runs done" in table.caption


def test_significance_is_corrected_over_all_runs(tmp_path: Path) -> None:
    table = table_of(tmp_path, [record("a", p_value=0.01), record("b", p_value=0.03), record("c", p_value=0.04)])
    assert [cells(table, f"{pair} †")["gain (points)"] for pair in "abc"] == ["+90.0*", "+90.0", "+90.0"]
    assert table.numbers["p_holm"].dropna().tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_real_models_are_not_marked_as_made_here(tmp_path: Path) -> None:
    table = table_of(tmp_path, [record("a", made_here=False), record("b", made_here=False)])
    assert "†" not in "".join(table.display["pair"]) + table.caption


def test_a_mean_that_holds_a_model_made_here_is_marked(tmp_path: Path) -> None:
    real = [record(pair, "x", made_here=False) for pair in "cd"]
    table = table_of(tmp_path, [record("a"), record("b"), *real])
    labels = list(table.display["pair"])
    assert {"a †", "c", "mean mini-llama (n=2) †", "mean x (n=2)", "mean of all (n=4) †"} <= set(labels)


def test_settings_are_columns_only_where_they_vary(tmp_path: Path) -> None:
    done = [record(pair, granularity=unit, hybrid=dsr) for pair in "ab" for unit, dsr in UNITS.items()]
    table = table_of(tmp_path, done)
    assert list(table.display.columns[:2]) == ["pair", "granularity"]
    assert table.labels == 2
    means = table.display[table.display["pair"] == "mean of all (n=2) †"]
    assert [cell.split(" [")[0] for cell in means["DSR hybrid (%)"]] == ["95.0", "50.0"]


def test_runs_that_no_setting_tells_apart_carry_their_identity(tmp_path: Path) -> None:
    table = table_of(tmp_path, [record("a", identity="1" * 64), record("a", identity="2" * 64)])
    assert list(table.display["run"][:2]) == ["11111111", "22222222"]


def test_settings_that_were_swept_are_columns_and_have_their_means(tmp_path: Path) -> None:
    runs = {(pair, bar): record(pair, identity=f"{pair}{bar}" * 16) for pair in "ab" for bar in (0.5, 0.9)}
    never = record("c", identity="c" * 64)
    sweep = write_sweep(tmp_path, [*runs.values()], [never])
    for (pair, bar), run in runs.items():
        rows = {"rows": [0, 64], "digest": f"{bar}" * 20}
        write_settings(sweep, run, {"search": {"seed": 0, "threshold": bar}, "dataset": rows, "pair": {"id": pair}})
    table = main_table(load([sweep]))
    assert table.labels == 2
    assert list(table.display.columns[:2]) == ["pair", "search.threshold"]
    assert list(table.display["search.threshold"]) == ["0.5", "0.9", "0.5", "0.9", "", "0.5", "0.9", ""]
    assert list(table.numbers["row"]) == ["run"] * 5 + ["mean"] * 2 + ["paper"]


def test_a_run_that_was_never_started_makes_no_setting_a_column(tmp_path: Path) -> None:
    done, never = record("a", identity="1" * 64), record("a", identity="2" * 64)
    sweep = write_sweep(tmp_path, [done], [never])
    write_settings(sweep, done, {"family": {"model_type": "llama"}})
    assert main_table(load([sweep])).labels == 1


def test_there_is_no_mean_where_a_pair_would_count_twice(tmp_path: Path) -> None:
    twice = [record("p", identity="1" * 64, hybrid=0.9), record("p", identity="2" * 64, hybrid=0.1)]
    table = table_of(tmp_path, [*twice, record("q", hybrid=0.9)])
    assert list(table.numbers["row"]) == ["run", "run", "run", "paper"]
    assert "No means: runs of one pair differ" in table.caption
    once = table_of(tmp_path / "once", [record("p", identity="1" * 64)], [record("p", identity="2" * 64)])
    assert list(once.numbers["row"]) == ["run", "run", "paper"], "one run has no mean"
    assert "No means" not in once.caption


def test_a_mean_over_fewer_runs_says_so(tmp_path: Path) -> None:
    without_gain = record("b", status="no_gain", found=8, percent=25.0, hybrid=0.05)
    table = table_of(tmp_path, [record("a"), without_gain, record("c", percent=8.25)])
    assert cells(table, "b †")["certified"] == "no gain"
    mean = cells(table, "mean of all (n=3) †")
    assert mean["units found"] == "2/8 (n=2)"
    assert mean["parameters moved (%)"] == "7.25 (n=2)"
    assert mean["DSR hybrid (%)"].startswith("65.0 [")
    alone = cells(table_of(tmp_path / "alone", [record("a"), without_gain]), "mean of all (n=2) †")
    assert (alone["units found"], alone["parameters moved (%)"]) == ("–", "–"), "one run has no mean"


def test_degenerate_and_unjudged_answers_stand_beside_the_dsr_where_there_are_any(tmp_path: Path) -> None:
    clean = table_of(tmp_path / "clean", [record("a"), record("b")])
    assert "degenerate (%)" not in clean.display
    assert "none was degenerate and none was left unjudged" in clean.caption
    looping = record("a", hybrid=0.9, outcomes={"harmful": 2, "degenerate": 2})
    table = table_of(tmp_path / "looping", [looping, record("b")])
    assert cells(table, "a †")["degenerate (%)"] == "0.0 / 5.0 / 0.0"
    assert "judge failed (%)" not in table.display


def test_a_hybrid_that_no_judge_judged_has_no_dsr_and_is_in_no_mean_and_no_test(tmp_path: Path) -> None:
    unjudged = record("b", p_value=1.0)
    none = Outcomes(refused=0, harmless=0, harmful=0, degenerate=0, failed=40)
    nothing = {"report": {"phrases": Defence(dsr=rate(0, 0), outcomes=none)}}
    hybrid = unjudged.evaluate.hybrid.model_copy(update={"dsr": rate(0, 0), "defence": nothing})
    first, second = unjudged.evaluate.comparisons
    compared = [first.model_copy(update={"difference": Measure(value=0.0, n=0)}), second]
    evaluate = unjudged.evaluate.model_copy(update={"hybrid": hybrid, "comparisons": compared})
    unjudged = unjudged.model_copy(update={"evaluate": evaluate})
    table = table_of(tmp_path / "both", [record("a"), record("c"), unjudged])
    row = cells(table, "b †")
    assert (row["DSR hybrid (%)"], row["gain (points)"]) == ("–", "–")
    assert cells(table, "mean of all (n=3) †")["DSR hybrid (%)"].startswith("95.0 [")
    assert cells(table, "mean of all (n=3) †")["DSR hybrid (%)"].endswith("] (n=2)")
    assert "the table's tests (2)" in table.caption
    assert table_of(tmp_path / "alone", [unjudged]).display["P(DSR≥bar)"][0] == "–"


def test_what_the_tests_could_have_missed_is_that_of_the_exact_test(tmp_path: Path) -> None:
    """Six gains without a loss give p < .05; 40 rows have so many with 80 % power from 19.0 points on."""
    caption = main_table(load([write_sweep(tmp_path, [record("a"), record("b")])])).caption
    assert "found with 80 % power from 19.0 points on (21.8 at Holm's first step)." in caption
    nearly_safe = record("b", student=0.95)
    assert "80 % power from 19.0" in table_of(tmp_path / "both", [record("a"), nearly_safe]).caption
    assert "and in 1 of 2 runs none is." in table_of(tmp_path / "both again", [record("a"), nearly_safe]).caption
    assert "No gain, however large, would be found" in table_of(tmp_path / "alone", [nearly_safe]).caption


def test_a_set_is_certified_of_what_everything_reaches(tmp_path: Path) -> None:
    """A hybrid at 25 % of a teacher's 100 % is certified where everything together reaches only 27.5 %."""
    weak = record("a", hybrid=0.25)
    search = weak.search.model_copy(update={"everything_dsr": 0.275, "found_dsr": 0.25, "threshold_dsr": 0.25})
    table = table_of(tmp_path, [weak.model_copy(update={"search": search}), record("b")])
    row = cells(table, "a †")
    assert row["search DSR: found / everything / bar (%)"] == "25.0 / 27.5 / 25.0"
    assert row["certified"] == "yes ‡"
    assert cells(table, "b †")["certified"] == "yes"
    assert "units of this kind do not suffice" in table.caption
    assert "1-minimal on the search rows" in table.caption
    assert "‡" not in table_of(tmp_path / "strong", [record("a"), record("b")]).caption


def test_entries_that_differ_stand_beside_those_moved(tmp_path: Path) -> None:
    run = record("a", percent=6.25)
    counted = run.model_copy(update={"transplant": run.transplant.model_copy(update={"differing": 320})})
    row = cells(table_of(tmp_path, [counted, record("b")]), "a †")
    assert (row["parameters changed (%)"], row["parameters moved (%)"]) == ("2.00", "6.25")


def test_a_mean_has_an_interval_over_teachers(tmp_path: Path) -> None:
    def of(teacher: str, pair: str, dsr: float) -> Record:
        run = record(pair, hybrid=dsr)
        model = run.pair.teacher.model_copy(update={"id": teacher})
        return run.model_copy(update={"pair": run.pair.model_copy(update={"teacher": model})})

    dsrs = {"a": 0.9, "b": 0.9, "c": 0.5, "d": 0.5}
    together = [of(teacher, pair, dsr) for teacher, (pair, dsr) in zip("xxyy", dsrs.items(), strict=True)]
    apart = [of(pair, pair, dsr) for pair, dsr in dsrs.items()]
    tables = [table_of(tmp_path / name, done) for name, done in (("together", together), ("apart", apart))]
    widths: list[Any] = [
        t.numbers.query("row == 'mean'")[["hybrid_dsr_low", "hybrid_dsr_high"]].diff(axis=1).iat[0, 1] for t in tables
    ]
    assert widths[0] > 1.3 * widths[1]


def test_a_single_run_states_how_sure_it_is_of_its_bar(tmp_path: Path) -> None:
    table = main_table(load([write_sweep(tmp_path, [record("a")])]))
    assert table.display["P(DSR≥bar)"][0] == "0.500"


def test_a_run_that_found_nothing_has_no_bar_to_be_sure_of(tmp_path: Path) -> None:
    table = main_table(load([write_sweep(tmp_path, [record("a", status="no_gain", found=8, hybrid=0.05)])]))
    assert table.display["P(DSR≥bar)"][0] == "–"
    assert table.numbers["above_threshold"].isna().all()
    assert "no gain: all units together gain too little, so nothing was searched" in table.caption
    assert "no gain:" not in table_of(tmp_path / "gain", [record("a")]).caption


def test_random_sets_have_a_p_value_beside_the_found_sets_dsr_at_the_same_length(tmp_path: Path) -> None:
    run = record()
    found = Measure(value=0.9, n=40)
    control = run.evaluate.random.model_copy(update={"found_dsr": found, "reached": 1, "p_value": 2 / 3})
    tested = run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"random": control})})
    table = main_table(load(write_sweep(tmp_path, [tested, record("b")])))
    shown = table.display.set_index("pair")["p (random-k)"]
    assert [cell for name, cell in shown.items() if str(name).startswith(("mini-llama-base", "b"))] == ["0.67", "–"]
    assert shown[[name.startswith("mean") for name in shown.index]].tolist() == [""], "a mean of p-values is no p-value"
    assert "cut at the search's length; cut in the same way, the found sets reach 90.0 %" in table.caption
    assert "p (random-k): (1 + random sets that reach the found set's DSR) / (1 + random sets)" in table.caption


def test_report_rows_that_were_dropped_are_said_beside_those_that_were_named(tmp_path: Path) -> None:
    run = record("a")
    counts = SetRecord(named=120, repeated=0, searched=80, similar=0, used=40)
    about = run.provenance.model_copy(update={"rows": {"report": counts, "search": counts}})
    dropped = run.model_copy(update={"provenance": about})
    assert "80 of 120 report rows were dropped" in table_of(tmp_path / "dropped", [dropped]).caption
    assert "were dropped" not in table_of(tmp_path / "none", [run]).caption
