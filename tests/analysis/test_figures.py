"""The data of each figure are planted numbers, and each figure can be read: at a column's width, light and dark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import drawing, load
from analysis.figures.ablation_forest import ablation_forest_data
from analysis.figures.agreement import agreement_data
from analysis.figures.cost import cost_data
from analysis.figures.profiles import profiles_data
from analysis.figures.search_traces import search_traces_data
from analysis.figures.style import SIZE, WIDTH
from analysis.figures.units_found import units_found_data
from analysis.registry import FIGURES, in_order
from analysis.report import figures_of
from dapa_exp.record.evaluation import Agreement, LayerChange
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record
from tests.analysis.factory import attacked, name_of, query, record, talked, write_settings, write_sweep

HELD = {"student": (1, 0), "hybrid": (9, 7), "teacher": (10, 10)}


def judged_twice(run: Record, agreement: float) -> Record:
    """The run with a second judge, and with hidden states that move by 0.1 a layer."""
    both = Agreement(judges=("phrases", "guard"), agreement=Measure(value=agreement, n=40), kappa=0.5)
    moved = [LayerChange(layer=i, hidden=Measure(value=i / 10, n=8, low=0.0, high=1.0), attention=None) for i in (0, 1)]
    more = {"agreement": [both], "agreement_by_model": {"hybrid": [both]}, "change_by_layer": {"harmful": moved}}
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update=more)})


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """Two pairs of a family, each in two granularities, with two judges; as if each replaced a share of its own."""
    runs = [
        record(pair, granularity=part, hybrid=dsr, units_found=[f"layers.{i}{unit}" for i in layers])
        for pair, layers in (("a", (0, 1)), ("b", (1, 3)))
        for part, unit, dsr in (("gate_proj", ".mlp.gate_proj", 0.5), ("layer", "", 0.9))
    ]
    sweep = write_sweep(tmp_path / "sweep", [talked(attacked(judged_twice(run, 0.9)), HELD) for run in runs])
    for run, share in zip(runs, (0.1, 0.2, 0.1, 0.2), strict=True):
        write_settings(sweep, run, {"search": {"prior": "attribution", "share": share}})
    return load(sweep)


def test_units_found_are_shares_of_runs_by_layer_and_part(frame: pd.DataFrame) -> None:
    data = units_found_data(frame)
    shares = {(row["part"], row["layer"]): row["share"] for row in data.to_dict("records")}
    assert shares == {
        (part, i): share for part in ("gate_proj", "layer") for i, share in ((0, 0.5), (1, 1.0), (3, 0.5))
    }
    assert set(data["runs"]) == {2}
    assert set(data["layers"]) == {8}


def test_a_run_that_found_nothing_to_leave_out_is_not_counted_as_a_finding(tmp_path: Path) -> None:
    runs = [record("a"), record("b", status="no_gain")]
    assert set(units_found_data(load(write_sweep(tmp_path, runs)))["runs"]) == {1}


def test_the_forest_has_the_ablation_tables_means_and_intervals(frame: pd.DataFrame) -> None:
    data = ablation_forest_data(frame)
    assert data[["block", "granularity", "n", "hybrid_dsr"]].to_numpy().tolist() == [
        ["mini-llama", "gate_proj", 2, 0.5],
        ["mini-llama", "layer", 2, 0.9],
    ]
    assert (data["low"] < data["hybrid_dsr"]).all()
    assert (data["high"] > data["hybrid_dsr"]).all()


def test_one_granularity_has_no_forest(tmp_path: Path) -> None:
    assert ablation_forest_data(load(write_sweep(tmp_path, [record("a"), record("b")]))).empty


def test_a_trace_has_each_query_and_the_smallest_set_that_passed_so_far(tmp_path: Path) -> None:
    run = record("a", total=8)
    sweep = write_sweep(tmp_path, [run])
    asked = [(8, 1.0), (4, 0.5), (3, 0.95), (6, 0.9), (2, 0.2)]
    lines = [
        query(i, 5) | {"units": [f"layers.{u}.mlp" for u in range(size)], "score": dsr}
        for i, (size, dsr) in enumerate(asked)
    ]
    (sweep / name_of(run) / "search.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    data = search_traces_data(load(sweep))
    assert data["dsr"].tolist() == [100.0, 50.0, 95.0, 90.0, 20.0]
    assert data["smallest"].tolist() == [100.0, 100.0, 37.5, 37.5, 37.5]


def test_a_damaged_trace_is_a_gap_and_costs_no_other_number(tmp_path: Path) -> None:
    run = record("a")
    sweep = write_sweep(tmp_path, [run])
    (sweep / name_of(run) / "search.jsonl").write_text("{}\n{}\n")
    frame = load(sweep)
    assert search_traces_data(frame).empty
    assert (frame["metric"] == "dsr").any()


def test_cost_is_the_mean_of_the_runs_by_stage(tmp_path: Path) -> None:
    runs = [record("a", queries=20), record("b", queries=40), record("a", search="auto", queries=4)]
    data = cost_data(load(write_sweep(tmp_path, runs)))
    assert data[["label", "stage", "seconds", "runs"]].to_numpy().tolist() == [
        ["ddmin", "search", 15.0, 2],
        ["auto", "search", 2.0, 1],
    ]


def test_agreement_is_of_the_hybrids_answers(frame: pd.DataFrame) -> None:
    (row,) = agreement_data(frame).to_dict("records")
    assert (row["one"], row["other"], row["runs"]) == ("phrases", "guard", 4)
    assert (row["agreement"], row["kappa"]) == (pytest.approx(0.9), 0.5)


def test_a_profile_is_the_mean_of_the_pairs_by_layer(frame: pd.DataFrame, tmp_path: Path) -> None:
    data = profiles_data(frame)
    assert data[["side", "layer", "distance", "pairs"]].to_numpy().tolist() == [
        ["harmful", 0, 0.0, 2],  # four runs: each pair in two granularities
        ["harmful", 1, 0.1, 2],
    ]
    alone = profiles_data(load(write_sweep(tmp_path / "one", [judged_twice(record("a"), 0.9)])))
    assert alone[["low", "high"]].to_numpy().tolist() == [[0.0, 1.0]] * 2


@pytest.mark.usefixtures("frame")
def test_every_figure_can_be_read_in_a_column_and_on_a_dark_page(tmp_path: Path) -> None:
    given = record("a", granularity="layer", search="given", status="control", units_found=["layers.1", "layers.3"])
    frame = load([tmp_path / "sweep", write_sweep(tmp_path / "given", [given])])
    figures = figures_of(frame)
    assert list(figures) == [name for name, _ in in_order(FIGURES)][: len(figures)]
    assert sorted(figures) == FIGURES.names()
    for name, figure in figures.items():
        png, svg = drawing.save(figure, tmp_path / "out", name)
        assert figure.get_figwidth() == WIDTH
        found: list[Any] = figure.findobj(Text)
        texts = [text for text in found if text.get_visible() and text.get_text()]
        assert min(text.get_fontsize() for text in texts) >= SIZE, name
        box = figure.get_tightbbox()
        assert -0.02 <= box.x0 <= box.x1 <= WIDTH + 0.02, f"{name} is cut off"
        assert "made here" in figure.get_suptitle()
        drawn = svg.read_text()
        assert "currentColor" in drawn
        assert not re.search(r"#000000|#ffffff; *stroke: none", drawn.replace("svg:root{color:#000}", "")), name
        first = (png.read_bytes(), svg.read_bytes())
        again = drawing.save(figures_of(frame)[name], tmp_path / "again", name)
        assert tuple(path.read_bytes() for path in again) == first
