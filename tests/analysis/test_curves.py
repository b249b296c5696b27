"""Curves of planted numbers: what each share of the parameters buys, by order, as means over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import load
from analysis.figures.curves import curves_data, draw_curves
from analysis.report import tables_of
from analysis.tables.curves import curves_table
from tests.analysis.factory import record, write_settings, write_sweep

DSR = {("attribution", 0.1, 0): 0.5, ("attribution", 0.3, 0): 0.9, ("shuffled", 0.1, 0): 0.1, ("shuffled", 0.1, 1): 0.3}
"""By order, share and seed."""


def planted(folder: Path) -> pd.DataFrame:
    runs = {
        key: record(
            "a", search="share", prior=key[0], hybrid=dsr, percent=90 * key[1], identity=f"{i}" * 64, over_refusal=0.02
        )
        for i, (key, dsr) in enumerate(DSR.items())
    }
    sweep = write_sweep(folder, list(runs.values()))
    for (order, share, seed), run in runs.items():
        write_settings(sweep, run, {"search": {"prior": order, "share": share, "seed": seed}})
    return load([sweep])


def test_a_row_is_a_share_of_an_order_and_a_mean_over_its_seeds(tmp_path: Path) -> None:
    table = curves_table(planted(tmp_path))
    shown = table.display[["order", "share (%)", "runs", "moved (%)", "DSR (%)", "over-refusal (%)"]]
    assert shown.to_numpy().tolist() == [
        ["attribution", "10.0", "1", "9.0", "50.0 [46, 54]", "2.0"],
        ["attribution", "30.0", "1", "27.0", "90.0 [86, 94]", "2.0"],
        ["shuffled", "10.0", "2", "9.0", "20.0 [0, 100]", "2.0"],
    ]
    assert table.rules == [2]


def test_a_curve_starts_at_the_student_and_goes_through_its_shares(tmp_path: Path) -> None:
    dsr, *_ = draw_curves(curves_data(planted(tmp_path))).axes
    drawn: list[Any] = [line.get_data() for line in dsr.lines if np.size(line.get_xdata())]
    points = [[(round(float(x)), round(float(y))) for x, y in zip(*line, strict=True)] for line in drawn]
    assert points == [[(0, 5), (9, 50), (27, 90)], [(0, 5), (9, 20)]]
    assert dsr.get_legend_handles_labels()[1] == ["a", "attribution", "shuffled"]


def test_without_shares_there_is_neither_table_nor_figure(tmp_path: Path) -> None:
    frame = load([write_sweep(tmp_path, [record("a")])])
    assert "curves" not in [table.name for table in tables_of(frame)]
    assert curves_data(frame).empty
