"""The figure shows planted numbers: curves from the student through its hybrids, over what these cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis import load
from analysis.drawing import save
from analysis.figures.style import COLOURS
from analysis.figures.trade_off import COSTS, draw_trade_off, trade_off_data
from dapa_exp.record.schema import Record
from tests.analysis.factory import record, write_sweep

BOUGHT = {0.9: 20.0, 0.5: 10.0, 0.2: 5.0}
"""DSR of a pair's hybrids, and how many percent of the parameters they took."""

NO_OVER_REFUSAL: dict[str, Any] = {"over_refusal": None, "over_refusals": {}}


def hybrids(pair: str = "a") -> list[Record]:
    return [
        record(pair, student=0.1, hybrid=dsr, percent=percent, over_refusal=dsr / 10, identity=f"{pair}{dsr}" * 16)
        for dsr, percent in BOUGHT.items()
    ]


def curves(axis: Axes) -> list[list[tuple[float, float]]]:
    drawn = [each for each in axis.collections if isinstance(each, LineCollection) and each.get_alpha()]
    return [
        [(round(float(x), 3), round(float(y), 3)) for x, y in segment]
        for each in drawn
        for segment in each.get_segments()
    ]


def trade_off(frame: pd.DataFrame) -> Figure:
    return draw_trade_off(trade_off_data(frame))


def test_a_curve_goes_from_the_student_through_its_hybrids_the_cheapest_first(tmp_path: Path) -> None:
    parameters, over_refusal, perplexity = trade_off(load([write_sweep(tmp_path, hybrids())])).axes
    assert curves(parameters) == [[(0.0, 10.0), (5.0, 20.0), (10.0, 50.0), (20.0, 90.0)]]
    assert curves(over_refusal) == [[(0.0, 10.0), (2.0, 20.0), (5.0, 50.0), (9.0, 90.0)]]
    assert curves(perplexity) == [[(0.0, 10.0), (0.0, 20.0), (0.0, 50.0), (0.0, 90.0)]]
    assert [axis.get_xlabel() for axis in (parameters, over_refusal, perplexity)] == list(COSTS.values())


def test_intervals_and_the_random_sets_of_the_same_size_are_shown(tmp_path: Path) -> None:
    (axis, *_) = trade_off(load([write_sweep(tmp_path, [*hybrids()])])).axes
    containers: list[Any] = axis.containers
    (bars,) = [container.lines[2][0] for container in containers]
    reach = [sorted(float(y) for _, y in segment) for segment in bars.get_segments()]
    assert reach == [pytest.approx([100 * dsr - 4, 100 * dsr + 4]) for dsr in sorted(BOUGHT)]
    (random,) = [line for line in axis.lines if "random" in str(line.get_label())]
    assert list(np.asarray(random.get_ydata())) == pytest.approx([15.0] * 3)


def test_searches_are_curves_of_their_own_and_named_in_the_legend(tmp_path: Path) -> None:
    others = [record("a", search="auto", percent=3.0), record("b", search="auto", percent=2.0)]
    figure = trade_off(load([write_sweep(tmp_path, [*hybrids(), *others])]))
    assert sorted(map(len, curves(figure.axes[0]))) == [2, 2, 4]
    named = {text.get_text() for text in figure.legends[0].get_texts()}
    assert named == {"student", "a ddmin", "a auto", "b auto", "random sets of as many units"}


def test_too_many_pairs_for_colours_of_their_own_are_families(tmp_path: Path) -> None:
    many = [record(f"p{i}", family=f"family {i % 2}", made_here=False) for i in range(len(COLOURS) + 1)]
    figure = trade_off(load([write_sweep(tmp_path, many)]))
    assert {"family 0", "family 1"} <= {text.get_text() for text in figure.legends[0].get_texts()}
    assert "no evidence" not in figure.get_suptitle()


def test_models_made_here_are_said_to_be(tmp_path: Path) -> None:
    assert "no evidence about real models" in trade_off(load([write_sweep(tmp_path, hybrids())])).get_suptitle()


def test_a_cost_that_nobody_measured_has_no_panel(tmp_path: Path) -> None:
    run = record("a")
    subjects = {n: getattr(run.evaluate, n).model_copy(update=NO_OVER_REFUSAL) for n in ("student", "hybrid")}
    without = run.model_copy(update={"evaluate": run.evaluate.model_copy(update=subjects)})
    other = without.model_copy(update={"identity": "1" * 64})
    figure = trade_off(load([write_sweep(tmp_path, [without, other])]))
    assert [axis.get_xlabel() for axis in figure.axes] == [COSTS["parameters_percent"], COSTS["perplexity_change"]]


def test_it_takes_two_finished_runs(tmp_path: Path) -> None:
    one = write_sweep(tmp_path / "one", [record("a")], [record("b")])
    assert trade_off_data(load([one])).empty
    runs = load([write_sweep(tmp_path / "two", [record("a"), record("b")], [record("c")])])
    assert all(path.stat().st_size > 1000 for path in save(trade_off(runs), tmp_path / "figures", "trade_off"))
