"""The utility table, from planted records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.tables.utility import utility_table
from dapa_exp.evaluate.statistics import rate
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record
from tests.analysis.factory import record, write_settings, write_sweep


def with_tasks(run: Record, **scores: float) -> Record:
    """The record with a hybrid that was given tasks."""
    tasks = {name.replace("__", "/"): Measure(value=value, n=10, low=0.0, high=1.0) for name, value in scores.items()}
    kl = {"1": Measure(value=0.5, n=8), "4": Measure(value=0.25, n=8)}
    hybrid = run.evaluate.hybrid.model_copy(update={"tasks": tasks, "kl_to_student": kl})
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"hybrid": hybrid})})


def test_a_single_run_shows_every_metric_with_its_interval(tmp_path: Path) -> None:
    runs = load([write_sweep(tmp_path, [with_tasks(record(), arc_easy__acc=0.25)])])
    shown: Any = utility_table(runs).display.set_index("metric")
    assert list(shown.columns) == ["student", "hybrid", "teacher"]
    assert shown.loc["arc_easy/acc"].tolist() == ["–", "0.250 [0.000, 1.000]", "–"]
    assert shown.loc["KL from the student, harmless requests, T = 4", "hybrid"] == "0.250"
    assert shown.loc["reasoning (%)"].tolist() == ["90.0", "90.0", "90.0"]
    assert shown.loc["over-refusal (%), harmless/phrases", "student"] == "0.0"


def test_over_refusal_that_no_judge_counted_is_not_zero(tmp_path: Path) -> None:
    def judged_by_none(run: Record) -> Record:
        unknown = {"over_refusals": {"harmless": {"phrases": rate(0, 0)}}, "over_refusal": rate(0, 0)}
        hybrid = run.evaluate.hybrid.model_copy(update=unknown)
        return run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"hybrid": hybrid})})

    alone = utility_table(load([write_sweep(tmp_path / "alone", [judged_by_none(record("a"))])]))
    name = "over-refusal (%), harmless/phrases"
    shown: Any = alone.display.set_index("metric").loc[name]
    assert shown.tolist() == ["0.0", "–", "0.0"]
    done = [judged_by_none(record("a")), record("b", over_refusal=0.5)]
    table = utility_table(load([write_sweep(tmp_path / "both", done)]))
    assert table.display.set_index("metric").loc[name, "hybrid"] == "50.0"


def test_several_runs_are_averaged_where_they_measured_it(tmp_path: Path) -> None:
    done = [with_tasks(record("a"), arc_easy__acc=0.2), with_tasks(record("b"), arc_easy__acc=0.4), record("c")]
    table = utility_table(load([write_sweep(tmp_path, done, asked_only=[record("d")])]))
    row = table.numbers.set_index("metric").loc["arc_easy/acc"]
    assert (row["hybrid"], row["n"]) == (pytest.approx(0.3), 2)
    bounds = (pytest.approx(-0.97, abs=0.01), pytest.approx(1.57, abs=0.01))
    assert (row["hybrid_low"], row["hybrid_high"]) == bounds, "two runs say little"
    assert table.display.set_index("metric").loc["perplexity", "n"] == "3"


def test_settings_that_vary_are_kept_apart(tmp_path: Path) -> None:
    runs = load([write_sweep(tmp_path, [record("a"), record("a", granularity="layer", perplexity=7.0)])])
    table = utility_table(runs)
    found = table.numbers[table.numbers["metric"] == "perplexity"].set_index("granularity")["hybrid"]
    assert found.to_dict() == {"mlp": 5.0, "layer": 7.0}
    assert table.labels == 2


def test_runs_of_a_pair_that_no_setting_tells_apart_are_not_averaged(tmp_path: Path) -> None:
    done = [record("a", identity="1" * 64), record("a", identity="2" * 64, perplexity=7.0)]
    table = utility_table(load([write_sweep(tmp_path, done)]))
    found = table.numbers[table.numbers["metric"] == "perplexity"].set_index("run")["hybrid"]
    assert found.to_dict() == {"11111111": 5.0, "22222222": 7.0}


def test_a_run_without_a_setting_that_others_swept_is_not_left_out(tmp_path: Path) -> None:
    settings = [{"method": "copy"}, {"method": "blend", "alpha": 0.3}, {"method": "blend", "alpha": 0.5}]
    done = [record("a", identity=str(i) * 64) for i in range(len(settings))]
    sweep = write_sweep(tmp_path, done)
    for run, transplant in zip(done, settings, strict=True):
        write_settings(sweep, run, {"transplant": transplant})
    table = utility_table(load([sweep]))
    shown = table.display[table.display["metric"] == "perplexity"]
    assert shown[["transplant.method", "transplant.alpha"]].to_numpy().tolist() == [
        ["copy", ""],
        ["blend", "0.3"],
        ["blend", "0.5"],
    ]
