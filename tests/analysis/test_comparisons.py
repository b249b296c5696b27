"""The comparisons table, from planted records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis import load
from analysis.measures import holm
from analysis.tables.comparisons import comparisons_table
from dapa_exp.record.evaluation import Clusters, PerplexityComparison
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record
from tests.analysis.factory import comparison, record, write_sweep


def compared(pair: str, teacher_p: float, *, over_refusal_p: float = 0.5, perplexity_p: float = 0.5) -> Record:
    """A record with planted tests of all that is tested."""
    run = record(pair, p_value=1e-9)
    clusters = Clusters(groups=8, design_effect=2.0, low=-0.2, high=0.01, p_value=0.25)
    against_student = run.evaluate.comparisons[0]
    against_teacher = comparison("teacher", -0.1, gained=0, lost=4, p_value=teacher_p, clusters=clusters)
    refusals = [comparison("student", 0.05, gained=2, lost=0, p_value=over_refusal_p, clusters=clusters)]
    change = Measure(value=0.25, n=9, low=0.1, high=0.4)
    perplexity = [PerplexityComparison(against="student", difference=change, p_value=perplexity_p)]
    more = {
        "comparisons": [against_student, against_teacher],
        "over_refusal_comparisons": refusals,
        "perplexity_comparisons": perplexity,
    }
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update=more)})


def test_hybrids_are_compared_with_their_teachers(tmp_path: Path) -> None:
    table = comparisons_table(load(write_sweep(tmp_path, [compared("a", 0.001), compared("b", 0.03)])))
    rows = table.display.set_index(["pair", "against"])
    assert rows.loc[("a", "teacher"), "DSR, points [95 %]"] == "-10.0"
    assert rows.loc[("a", "teacher"), "p (DSR)"] == ".001*"
    assert rows.loc[("b", "teacher"), "p (DSR)"] == ".030", "not significant after Holm's correction"
    assert "2 of 2 hybrids defend fewer rows than their teacher at p < 0.05, 1 of them after" in table.caption
    assert table.rules == [2]


def test_changes_of_over_refusal_and_perplexity_are_tested_too(tmp_path: Path) -> None:
    done = [compared("a", 0.5, over_refusal_p=0.0001, perplexity_p=0.0002), compared("b", 0.5)]
    rows = comparisons_table(load(write_sweep(tmp_path, done))).display.set_index(["pair", "against"])
    assert rows.loc[("a", "student"), "over-refusal, points [95 %]"] == "+5.0"
    assert rows.loc[("a", "student"), "p (over-refusal)"] == "< .001*"
    assert rows.loc[("a", "student"), "perplexity [95 %]"] == "+0.250 [0.100, 0.400]"
    assert rows.loc[("a", "student"), "p (perplexity)"] == "< .001*"
    assert rows.loc[("b", "student"), "p (perplexity)"] == "0.50"
    assert rows.loc[("a", "teacher"), "perplexity [95 %]"] == "–"


def test_holm_corrects_over_all_tests_that_are_shown(tmp_path: Path) -> None:
    table = comparisons_table(load(write_sweep(tmp_path, [compared("a", 0.02)])))
    teacher = table.numbers[table.numbers["against"] == "teacher"].iloc[0]
    assert teacher["dsr_p_holm"] == pytest.approx(3 * 0.02), "of four tests, one has a smaller p"
    assert "the table's 4 tests" in table.caption


def test_holms_correction_never_orders_p_values_anew_and_leaves_unknown_ones_out() -> None:
    p_values = pd.Series([0.04, float("nan"), 0.01, 0.03, 0.9], index=list("abcde"))
    assert holm(p_values).dropna().to_dict() == pytest.approx({"a": 0.09, "c": 0.04, "d": 0.09, "e": 0.9})
    assert holm(pd.Series([float("nan")])).isna().all()


def test_rows_of_a_category_count_as_one_group_beside(tmp_path: Path) -> None:
    table = comparisons_table(load(write_sweep(tmp_path, [compared("a", 0.02)])))
    row = table.display.set_index("against").loc["teacher"]
    assert row["by group [95 %]"] == "[-20.0, 1.0]"
    assert (row["p by group"], row["rows/groups"], row["design effect"]) == ("0.25", "40/8", "2.0")


def test_older_records_have_what_they_counted(tmp_path: Path) -> None:
    display = comparisons_table(load(write_sweep(tmp_path, [record("a")]))).display
    assert list(display) == ["pair", "against", "DSR, points [95 %]", "p (DSR)"]
