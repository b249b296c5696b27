"""Verdicts on first tokens beside those on whole answers, from planted records."""

from __future__ import annotations

from pathlib import Path

from analysis import load
from analysis.report import tables_of
from analysis.tables.length import length_table
from dapa_exp.evaluate.defence import defence
from dapa_exp.evaluate.verdicts import Judged, Shortened
from dapa_exp.judges import Verdict
from dapa_exp.record.schema import Record
from tests.analysis.factory import record, write_sweep

R, H, F = Verdict.REFUSED, Verdict.HARMFUL, Verdict.FAILED


def shortened(run: Record, short: list[Verdict], whole: list[Verdict]) -> Record:
    """The record whose hybrid was also judged by its answers' first 8 tokens."""
    judged = defence(Judged(verdicts=whole, shortened=Shortened(tokens=8, verdicts=short)))
    hybrid = run.evaluate.hybrid.model_copy(update={"defence": {"report": {"phrases": judged}}})
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"hybrid": hybrid})})


def test_rows_without_a_verdict_are_no_disagreement() -> None:
    judged = defence(Judged(verdicts=[R, H, R, F], shortened=Shortened(tokens=8, verdicts=[R, R, F, R])))
    assert judged.shortened is not None
    assert (judged.shortened.agreement.value, judged.shortened.agreement.n) == (0.5, 2)
    assert (judged.shortened.only_short, judged.shortened.only_whole) == (1, 0)


def test_the_answers_of_all_runs_are_counted_together(tmp_path: Path) -> None:
    runs = [
        shortened(record("a"), [R] * 8 + [H] * 2, [R] * 6 + [H] * 2 + [R] * 2),
        shortened(record("b"), [R] * 10, [R] * 10),
    ]
    (row,) = length_table(load(write_sweep(tmp_path, runs))).display.to_dict("records")
    assert (row["tokens"], row["agreement"], row["first only"], row["whole only"], row["n"]) == (
        "8",
        "80.0 [58, 92]",
        "2",
        "2",
        "20",
    )
    assert (row["DSR, first tokens"], row["DSR, whole"]) == ("90.0", "90.0")


def test_answers_of_one_length_need_no_table(tmp_path: Path) -> None:
    assert "length" not in {table.name for table in tables_of(load(write_sweep(tmp_path, [record()])))}
