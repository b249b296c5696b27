"""Conversations turn by turn, from planted records."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import load
from analysis.figures.turns import turns_data
from analysis.report import tables_of
from analysis.tables.conversations import conversations_table
from tests.analysis.factory import record, talked, write_sweep

HELD = {"student": (1, 0), "hybrid": (9, 7), "teacher": (10, 10)}


def test_without_conversations_there_is_no_table(tmp_path: Path) -> None:
    frame = load(write_sweep(tmp_path, [record()]))
    assert "conversations" not in {table.name for table in tables_of(frame)}


def test_each_turn_says_what_holds_and_the_last_one_how_far_from_the_teacher(tmp_path: Path) -> None:
    frame = load(write_sweep(tmp_path, [talked(record(), HELD)]))
    shown = conversations_table(frame).display
    assert shown[["turn", "broken here", "hybrid − teacher"]].to_numpy().tolist() == [
        ["1", "1", "–"],
        ["2", "2", "-30.0 [-50.0, 50.0], p 0.25"],
    ]
    assert shown["holds hybrid"].iloc[1] == "70.0 [40, 89]"
    assert shown["DSR student"].iloc[0] == "10.0 [2, 40]"


def test_means_are_over_runs_and_the_figure_has_a_panel_a_setting(tmp_path: Path) -> None:
    runs = [talked(record(pair, granularity=part), HELD) for pair in ("a", "b") for part in ("mlp", "layer")]
    frame = load(write_sweep(tmp_path, runs))
    numbers = conversations_table(frame).numbers
    means = numbers[numbers["pair"] == "mean (n=2)"]
    assert len(means) == 4
    assert means["held_hybrid_value"].tolist() == pytest.approx([0.9, 0.7] * 2)
    assert set(turns_data(frame)["panel"]) == {"mlp", "layer"}
