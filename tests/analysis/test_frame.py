"""The long frame: what a notebook gets, and what all tables are made of."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from analysis import load
from analysis.frame import NUMBER, PLACE, RUN
from analysis.report import report
from dapa_exp.base.errors import DapaError
from dapa_exp.record.evaluation import Clusters, PerplexityComparison
from dapa_exp.record.measure import Measure
from tests.analysis.factory import comparison, name_of, record, write_failure, write_run, write_settings, write_sweep

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def value(frame: pd.DataFrame, metric: str, **where: object) -> float:
    """The one value of a metric."""
    found = frame[frame["metric"] == metric]
    for name, wanted in where.items():
        found = found[found[name] == wanted]
    assert len(found) == 1, found
    return float(found["value"].iloc[0])


def runs_in(frame: pd.DataFrame, column: str) -> list[str]:
    return list(frame.drop_duplicates("identity")[column])


def test_a_row_for_each_number_of_a_run(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "miniature", [record("a", hybrid=0.925, queries=20)], [record("b")])
    write_failure(sweep, record("b"), "boom")
    frame = load(sweep)
    done, failed = (frame[frame["pair"] == pair] for pair in "ab")
    assert value(done, "dsr", subject="hybrid", set="report", judge="phrases") == 0.925
    assert value(done, "outcome", subject="hybrid", key="refused") == 37
    assert value(done, "queries") == 20
    assert value(done, "dsr_gained", subject="hybrid", against="student") == 36
    assert value(done, "search_dsr", subject="everything") == 1.0
    assert list(done[done["metric"] == "unit"]["key"]) == ["layers.0.mlp", "layers.1.mlp"]
    assert set(failed["metric"]) == {"state"}
    assert (failed["state"].iloc[0], failed["reason"].iloc[0]) == ("failed", "search: boom")
    assert set(frame["experiment"]) == {"miniature"}


def test_a_run_that_later_code_has_finished_again_counts_once(tmp_path: Path) -> None:
    """Otherwise a mean would count each pair twice after the identity's version was raised."""
    old, new, other = record("a", hybrid=0.5), record("a", hybrid=0.9, seed=1), record("b", hybrid=0.7)
    new = new.model_copy(update={"identity": "3" * 64})
    sweep = write_sweep(tmp_path, [new, old, other])
    for run, version, threshold in ((old, 2, 0.9), (new, 3, 0.9), (other, 2, 0.9)):
        essence = {"version": version, "pair": run.pair.name, "search": {"threshold": threshold}}
        write_settings(sweep, run, essence)
    frame = load(sweep)
    assert runs_in(frame, "identity") == [new.identity, other.identity]
    write_settings(sweep, old, {"version": 2, "pair": "a", "search": {"threshold": 0.8}})
    assert len(runs_in(load(sweep), "identity")) == 3


def test_one_run_with_two_results_is_an_error_that_names_both(tmp_path: Path) -> None:
    """Which of the two counts would depend on the order of the folders."""
    one, other = (write_sweep(tmp_path / name, [record("a", hybrid=dsr)]) for name, dsr in (("x", 0.9), ("y", 0.5)))
    with pytest.raises(DapaError, match=r"x/a-\S+ and \S+y/a-\S+ are one run .* hybrid 90\.0, .* and .* hybrid 50\.0,"):
        load([one, other])
    assert value(load(other), "dsr", subject="hybrid", set="report") == 0.5


def test_the_frame_is_typed_and_its_schema_is_documented(tmp_path: Path) -> None:
    frame = load(write_sweep(tmp_path, [record("a")]))
    assert list(frame) == [*RUN, *PLACE, *NUMBER]
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == {name: kind.name.lower() for name, kind in frame.dtypes.items()}
    named = set(re.findall(r"`(\w+)`", DOCS.read_text(encoding="utf-8")))
    assert set(frame["metric"]) <= named


def test_what_newer_records_hold_is_there_too(tmp_path: Path) -> None:
    run = record("a")
    clusters = Clusters(groups=8, design_effect=2.5, low=0.8, high=0.97, p_value=0.008)
    compared = comparison("student", 0.05, gained=2, lost=0, p_value=0.5, clusters=clusters)
    change = PerplexityComparison(
        against="student", difference=Measure(value=0.1, n=9, low=0.0, high=0.2), p_value=0.04
    )
    hybrid = run.evaluate.hybrid.model_copy(update={"dsr_clusters": clusters})
    more = {
        "hybrid": hybrid,
        "over_refusal_comparisons": [compared],
        "perplexity_comparisons": [change],
        "above_threshold_clusters": 0.4,
    }
    run = run.model_copy(update={"evaluate": run.evaluate.model_copy(update=more)})
    frame = load(write_sweep(tmp_path, [run]))
    assert value(frame, "design_effect", subject="hybrid") == 2.5
    assert value(frame, "over_refusal_change", against="student") == 0.05
    assert value(frame, "over_refusal_p_by_group", against="student") == 0.008
    assert value(frame, "perplexity_p", against="student") == 0.04
    assert value(frame, "above_bar_by_group") == 0.4
    named = set(re.findall(r"`(\w+)`", DOCS.read_text(encoding="utf-8")))
    assert set(frame["metric"]) <= named


def test_settings_are_rows(tmp_path: Path) -> None:
    run = record("a")
    sweep = write_sweep(tmp_path, [run])
    write_settings(sweep, run, {"search": {"threshold": 0.5}})
    frame = load(sweep)
    (row,) = frame[frame["metric"] == "setting"].to_dict("records")
    assert (row["key"], row["text"]) == ("search.threshold", "0.5")


def test_several_folders_are_taken_together_and_no_run_counts_twice(tmp_path: Path) -> None:
    first = write_sweep(tmp_path / "first", [record("a"), record("b")])
    second = write_sweep(tmp_path / "second", [record("c")])
    frame = load([first, second, first / name_of(record("a"))])
    assert runs_in(frame, "pair") == ["a", "b", "c"]
    assert runs_in(frame, "experiment") == ["first", "first", "second"]


def test_equal_identities_in_several_folders_are_one_run_and_the_finished_one(tmp_path: Path) -> None:
    first = write_sweep(tmp_path / "first", [record("a")], [record("b")])
    second = write_sweep(tmp_path / "second", [record("b"), record("a")])
    frame = load([first, second])
    assert runs_in(frame, "pair") == ["a", "b"]
    assert runs_in(frame, "state") == ["done", "done"]
    assert runs_in(frame, "experiment") == ["first", "second"]


def test_a_single_run(tmp_path: Path) -> None:
    assert runs_in(load(str(write_run(tmp_path, record("a")))), "pair") == ["a"]


def test_an_older_records_difference_has_an_interval_of_some_width(tmp_path: Path) -> None:
    """Its bootstrap gave [1, 1] where all rows are alike; the counts in the record tell a better one."""
    run = record("a", student=0.0, hybrid=1.0)
    against_student, against_teacher = run.evaluate.comparisons
    certain = Measure(value=1.0, n=40, low=1.0, high=1.0)
    compared = [against_student.model_copy(update={"difference": certain, "gained": 40}), against_teacher]
    run = run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"comparisons": compared})})
    frame = load(write_sweep(tmp_path, [run]))
    (row,) = frame[(frame["metric"] == "dsr_change") & (frame["against"] == "student")].to_dict("records")
    assert (row["value"], row["high"]) == (1.0, 1.0)
    assert 0.8 < row["low"] < 0.95


def test_importing_needs_no_model_library() -> None:
    heavy = {"torch", "transformers", "wandb"}
    code = f"import sys, analysis.report, dapa_exp.record.mirror; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_sweeps_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    before = write_sweep(tmp_path / "before" / "miniature", [record("a", hybrid=0.5)])
    after = write_sweep(tmp_path / "after" / "miniature", [record("a", identity="9" * 64)])
    assert runs_in(load([before, after]), "experiment") == ["before/miniature", "after/miniature"]
    assert runs_in(load(before), "experiment") == ["miniature"]


def test_the_frame_is_read_back_from_parquet_as_it_was(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a"), record("b")], [record("c")])
    report([sweep], Console(file=io.StringIO()), parquet=True)
    pd.testing.assert_frame_equal(pd.read_parquet(sweep / "report" / "frame.parquet"), load(sweep))
