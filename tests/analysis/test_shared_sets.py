"""Sets found on one student and planted into another: who is served, and which is the union of all."""

from __future__ import annotations

from pathlib import Path

from analysis import load
from analysis.figures.shared_sets import draw_shared_sets, shared_sets_data
from analysis.report import tables_of
from analysis.tables.shared_sets import shared_sets_table
from dapa_exp.record.schema import ModelRecord, Record, ServedStudent
from tests.analysis.factory import record, write_sweep

FOUND = {"a": ["u"], "b": ["u", "v"]}


def given(pair: str, units: list[str], dsr: float, number: int) -> Record:
    return record(pair, search="given", status="control", units_found=units, hybrid=dsr, identity=f"{number}" * 64)


def test_a_set_is_a_row_and_a_student_a_column(tmp_path: Path) -> None:
    searched = [record(pair, search="auto", units_found=units, queries=9) for pair, units in FOUND.items()]
    searched.append(record("c", search="auto", units_found=["w"], queries=5))
    tried = [given("a", ["v", "u"], 0.91, 1), given("b", ["u"], 0.3, 2), given("a", ["w", "u", "v"], 1.0, 3)]
    frame = load([write_sweep(tmp_path, [*searched, *tried])])
    shown = shared_sets_table(frame).display
    assert shown[["found on", "queries", "serves", "a", "b"]].to_numpy().tolist() == [
        ["a", "9", "1/2", "95.0 [91, 99]*", "30.0 [26, 34]"],
        ["b", "9", "2/2", "91.0 [87, 95]*", "95.0 [91, 99]*"],
        ["c", "5", "1/1", "–", "–"],
        ["all of them together", "–", "1/1", "100.0 [96, 100]*", "–"],
    ]
    figure = draw_shared_sets(shared_sets_data(frame))
    assert [text.get_text() for text in figure.axes[0].texts] == ["95", "30", "91", "95", "95", "100"]


def test_a_set_of_one_search_for_several_students_is_a_row_of_its_own(tmp_path: Path) -> None:
    runs = [record(pair, search="auto", units_found=units, queries=9) for pair, units in FOUND.items()]
    joint = record("a", search="auto", units_found=["u", "w"], queries=14, identity="9" * 64)
    served = [
        ServedStudent(
            model=ModelRecord(id=name, revision=None, digest=None),
            **dict.fromkeys(("student_dsr", "threshold_dsr", "found_dsr", "everything_dsr"), 0.5),
            ledger=joint.search.ledger,
        )
        for name in ("zoo:a", "zoo:b")
    ]
    joint = joint.model_copy(update={"search": joint.search.model_copy(update={"students": served})})
    frame = load([write_sweep(tmp_path, [joint, *runs, given("b", ["w", "u"], 0.91, 1)])])
    shown = shared_sets_table(frame).display
    assert shown[["found on", "queries", "serves", "a", "b"]].to_numpy().tolist() == [
        ["a", "9", "1/1", "95.0 [91, 99]*", "–"],
        ["b", "9", "1/1", "–", "95.0 [91, 99]*"],
        ["one search for zoo:a, zoo:b", "14", "2/2", "95.0 [91, 99]*", "91.0 [87, 95]*"],
    ]


def test_searches_alone_make_no_such_table(tmp_path: Path) -> None:
    frame = load([write_sweep(tmp_path, [record("a", search="auto"), record("b", search="auto")])])
    assert "shared_sets" not in [table.name for table in tables_of(frame)]
    assert shared_sets_data(frame).empty
