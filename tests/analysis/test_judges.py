"""The judges' tables, from planted records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis import load
from analysis.report import tables_of
from analysis.tables.agreement import agreement_table
from analysis.tables.judges import judges_table
from dapa_exp.evaluate.statistics import rate
from dapa_exp.record.evaluation import Agreement, Defence, Outcomes
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record
from tests.analysis.factory import record, write_sweep

HYBRIDS = {"mlp": 0.95, "up_proj": 0.15}
JUDGES = ("phrases", "chat")


def seen_by(run: Record, judge: str, dsr: float, kappa: float | None, failed: int = 0) -> Record:
    """The record with another judge's view of all three models."""
    dsr_by_judge = Measure(value=dsr, n=40, low=dsr - 0.1, high=dsr + 0.1)
    return _seen(run, judge, dsr_by_judge, Measure(value=0.75, n=120), kappa, failed)


def down(run: Record, judge: str) -> Record:
    """The record with another judge that failed on everything."""
    return _seen(run, judge, rate(0, 0), rate(0, 0), None, failed=40)


def _seen(run: Record, judge: str, dsr: Measure, agreement: Measure, kappa: float | None, failed: int) -> Record:
    view = Defence(dsr=dsr, outcomes=Outcomes(refused=0, harmless=0, harmful=dsr.n, degenerate=0, failed=failed))
    subjects = {
        name: subject.model_copy(update={"defence": {"report": {**subject.defence["report"], judge: view}}})
        for name in ("student", "hybrid", "teacher")
        for subject in [getattr(run.evaluate, name)]
    }
    agreed = Agreement(judges=("phrases", judge), agreement=agreement, kappa=kappa)
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update={**subjects, "agreement": [agreed]})})


def names(sweep: Path) -> list[str]:
    return [table.name for table in tables_of(load([sweep]))]


def test_one_judge_and_one_set_need_no_table_of_their_own(tmp_path: Path) -> None:
    assert {"judges", "agreement"}.isdisjoint(names(write_sweep(tmp_path / "a", [record()])))
    both = names(write_sweep(tmp_path / "b", [seen_by(record(), "chat", 0.5, 0.4)]))
    assert {"judges", "agreement"} <= set(both)


def test_a_single_run_shows_each_judges_dsr_with_its_interval_and_what_failed(tmp_path: Path) -> None:
    runs = load([write_sweep(tmp_path, [seen_by(record(), "chat", 0.5, 0.4, failed=2)])])
    shown: Any = judges_table(runs).display.set_index(["prompts", "judge"])
    assert shown.loc[("report", "phrases")].tolist() == ["5.0", "95.0 [91, 99]", "100.0", "0"]
    assert shown.loc[("report", "chat")].tolist() == ["50.0", "50.0 [40, 60]", "50.0", "6"]


def test_agreement_is_averaged_over_the_runs_that_both_judges_scored(tmp_path: Path) -> None:
    done = [seen_by(record("a"), "chat", 0.5, 0.4), seen_by(record("b"), "chat", 0.7, None), record("c")]
    runs = load([write_sweep(tmp_path, done)])
    (row,) = agreement_table(runs).display.to_dict("records")
    assert list(row.values()) == ["phrases", "chat", "all", "75.0", "0.400", "240", "2"]
    judged = judges_table(runs)
    assert str(judged.display.set_index("judge").loc["chat", "hybrid"]).startswith("60.0 [")
    assert (judged.numbers["hybrid_high"] - judged.numbers["hybrid_low"] > 0.01).all(), "no interval is of zero width"


def test_a_judge_that_judged_nothing_has_no_dsr_and_agrees_with_nobody(tmp_path: Path) -> None:
    runs = load([write_sweep(tmp_path, [down(record(), "chat")])])
    shown: Any = judges_table(runs).display.set_index("judge")
    assert shown.loc["chat"].tolist() == ["report", "–", "–", "–", "120"]
    (row,) = agreement_table(runs).display.to_dict("records")
    assert list(row.values()) == ["phrases", "chat", "all", "–", "–", "0", "0"]


def test_runs_in_which_a_judge_judged_nothing_are_in_no_mean(tmp_path: Path) -> None:
    runs = load([write_sweep(tmp_path, [seen_by(record("a"), "chat", 0.5, 0.4), down(record("b"), "chat")])])
    shown: Any = judges_table(runs).display.set_index("judge")
    assert shown.loc["chat"].tolist() == ["report", "50.0", "50.0", "50.0", "120", "1"]
    (row,) = agreement_table(runs).display.to_dict("records")
    assert list(row.values()) == ["phrases", "chat", "all", "75.0", "0.400", "120", "1"]


def test_settings_that_vary_are_kept_apart(tmp_path: Path) -> None:
    done = [seen_by(record("a", granularity=g, hybrid=dsr), "chat", dsr, dsr) for g, dsr in HYBRIDS.items()]
    runs = load([write_sweep(tmp_path, done)])
    table = judges_table(runs)
    shown = table.display.set_index(["judge", "granularity"])
    means = {place: cell.split(" [")[0] for place, cell in shown["hybrid"].to_dict().items()}
    assert means == {(j, g): f"{100 * dsr:.1f}" for g, dsr in HYBRIDS.items() for j in JUDGES}
    assert (table.labels, table.rules) == (3, [2])
    assert agreement_table(runs).display.set_index("granularity")["Cohen's kappa"].to_dict() == {
        "mlp": "0.950",
        "up_proj": "0.150",
    }


def test_two_hybrids_with_a_judge_each_are_not_one_hybrid_with_two_judges(tmp_path: Path) -> None:
    first, second = record("a", identity="1" * 64, hybrid=0.9), record("a", identity="2" * 64, hybrid=0.1)
    subjects = {
        name: subject.model_copy(update={"defence": {"report": {"guard": subject.defence["report"]["phrases"]}}})
        for name in ("student", "hybrid", "teacher")
        for subject in [getattr(second.evaluate, name)]
    }
    second = second.model_copy(update={"evaluate": second.evaluate.model_copy(update=subjects)})
    shown = judges_table(load([write_sweep(tmp_path, [first, second])])).display
    assert shown[["run", "judge", "hybrid", "n"]].to_numpy().tolist() == [
        ["11111111", "phrases", "90.0 [86, 94]", "1"],
        ["22222222", "guard", "10.0 [6, 14]", "1"],
    ]


def test_agreement_is_shown_model_by_model_where_the_record_tells(tmp_path: Path) -> None:
    """Over all models, judges agree for the easy reason that both tell a student from a teacher."""
    older, newer = (seen_by(record(name), "chat", 0.5, 0.4) for name in "ab")
    of_each = {
        model: [Agreement(judges=JUDGES, agreement=Measure(value=share, n=40), kappa=None)]
        for model, share in (("student", 1.0), ("hybrid", 0.5), ("teacher", 0.75))
    }
    newer = newer.model_copy(update={"evaluate": newer.evaluate.model_copy(update={"agreement_by_model": of_each})})
    table = agreement_table(load([write_sweep(tmp_path, [older, newer])]))
    assert table.display[["model", "agreement (%)", "answers"]].to_numpy().tolist() == [
        ["all", "75.0", "120"],
        ["student", "100.0", "40"],
        ["hybrid", "50.0", "40"],
        ["teacher", "75.0", "40"],
    ]
    assert "from an older record" in table.caption


def test_a_judge_that_sees_no_refusals_has_a_reason_in_place_of_over_refusal(tmp_path: Path) -> None:
    run = record()
    blind = {"over_refusal": None, "over_refusals": {"harmless": {"guard": None}}, "no_over_refusal": {"guard": "why"}}
    hybrid = run.evaluate.hybrid.model_copy(update=blind)
    run = run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"hybrid": hybrid})})
    rows = load([write_sweep(tmp_path, [run])])
    rows = rows[(rows["subject"] == "hybrid") & (rows["judge"] == "guard")]
    assert rows[["metric", "text"]].to_numpy().tolist() == [["no_over_refusal", "why"]]
