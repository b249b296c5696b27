"""A missing number is a gap with a reason, in every format; odd records cost no more than their own numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from analysis import load
from analysis.report import report, tables_of
from analysis.tables.controls import controls_table
from analysis.tables.main import main_table
from analysis.tables.methods import has_methods, methods_table
from analysis.tables.over_refusal import over_refusal_table
from analysis.tables.table import Table
from dapa_exp.record.evaluation import ControlRecord, Defence, Outcomes, Subject
from dapa_exp.record.measure import Measure
from dapa_exp.record.schema import Record
from tests.analysis.factory import COMPLETION, name_of, record, write_failure, write_settings, write_sweep

SUBJECTS = ("student", "hybrid", "teacher")


def with_evaluation(run: Record, **changes: Any) -> Record:
    return run.model_copy(update={"evaluate": run.evaluate.model_copy(update=changes)})


def with_subjects(run: Record, **changes: Any) -> Record:
    """The run with these changes in what was measured of student, hybrid and teacher."""
    changed: dict[str, Subject] = {name: getattr(run.evaluate, name).model_copy(update=changes) for name in SUBJECTS}
    return with_evaluation(run, **changed)


def unjudged(run: Record) -> Record:
    """The run with a judge that failed on every answer."""
    none, outcomes = Measure(value=0.0, n=0), Outcomes(refused=0, harmless=0, harmful=0, degenerate=0, failed=40)
    compared = [comparison.model_copy(update={"difference": none}) for comparison in run.evaluate.comparisons]
    defence = {"report": {"phrases": Defence(dsr=none, outcomes=outcomes)}}
    failed = with_subjects(run, dsr=none, outcomes=outcomes, defence=defence)
    return with_evaluation(failed, comparisons=compared)


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=100)
    table.print(console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_a_gap_has_its_reason_in_every_format(tmp_path: Path) -> None:
    blind = {"over_refusal": None, "over_refusals": {}, "no_over_refusal": {"phrases": "it is blind"}}
    runs = [
        with_subjects(record("a"), perplexity=None),
        with_subjects(record("b"), **blind),
        with_evaluation(record("c", status="no_gain"), random=ControlRecord(k=0, dsr=[], mean=None)),
    ]
    table = main_table(load(write_sweep(tmp_path, runs, [record("d")])))
    expected = [
        "perplexity was not measured (1 row)",
        "it is blind (1 row)",
        "no set was found, since all units together gain too little (1 row)",
        "run missing (1 row)",
    ]
    for text in (printed(table), table.to_markdown(), table.to_latex()):
        assert all(why in text for why in expected)
    csv = pd.read_csv(io.StringIO(table.to_csv()))
    assert [f"{why} (1 row)" for why in csv["gap"][:4]] == expected


def test_a_table_without_gaps_speaks_of_none() -> None:
    display = pd.DataFrame({"pair": ["a"], "sizes": ["2–3"]})
    table = Table("t", "T", "Caption.", display, display)
    assert table.about() == "Caption."
    assert table.to_csv() == "pair,sizes\na,2–3\n"


def test_no_table_and_no_page_quotes_an_answer_that_a_failure_quotes(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, [record("a")], [record("b")])
    write_failure(sweep, record("b"), f"the teacher is not safer\n  student: {COMPLETION}")
    paths = report([sweep], Console(file=io.StringIO(), width=100), parquet=True)
    texts = [path.read_text(encoding="utf-8") for path in paths if path.suffix not in (".png", ".parquet")]
    assert any("the teacher is not safer" in text for text in texts)
    assert not any(COMPLETION in text for text in texts)
    assert not load(sweep)["reason"].astype("string").str.contains(COMPLETION).any()


@pytest.mark.slow
def test_odd_records_are_reported_without_an_unknown_number_spelled_out(tmp_path: Path) -> None:
    odd = "naïve 模型 <b>|*\\input{x}" + "y" * 120
    renamed = record("c").model_copy(update={"pair": record("c").pair.model_copy(update={"name": odd})})
    runs = [
        unjudged(record("a", granularity="layer")),
        unjudged(record("b")),
        record("b", granularity="layer", student=0.85, hybrid=0.5, teacher=0.1),
        record("c", granularity="layer", units_found=["layers.99.mlp", "odd", "layers.1.self_attn.q_proj"]),
        record("d"),
        renamed,
    ]
    sweep = write_sweep(tmp_path, runs[:-1])
    write_sweep(tmp_path / "more", [record("c")])
    (tmp_path / "more" / name_of(record("c")) / "record.json").write_text(renamed.model_dump_json())
    write_settings(sweep, record("d"), {"experiment": "not the sweep's", "empty": {}, "list": [1]})
    (sweep / name_of(record("d", granularity="layer"))).mkdir()
    (sweep / name_of(record("d", granularity="layer")) / "record.json").write_text("{")
    console = Console(file=io.StringIO(), width=100)
    paths = report([sweep, tmp_path / "more"], console)
    texts = {path.name: path.read_text(encoding="utf-8") for path in paths if path.suffix in (".md", ".tex", ".html")}
    text = "".join(texts.values())
    assert "nan" not in text.replace("isNaN", "").lower().split()
    assert "nan %" not in text
    assert "<b>" not in texts["report.html"]
    assert "no answer of the hybrid was judged" in texts["report.html"]
    assert max(map(len, console.file.getvalue().splitlines()[:-2])) <= 100  # type: ignore[attr-defined]


def test_every_table_fits_a_console_of_100_columns(tmp_path: Path) -> None:
    long = [f"mini-mistral-{name}-of-a-rather-long-name" for name in ("style", "base")]
    runs = [
        record(pair, granularity=part, search=search, prior="attribution")
        for pair in long
        for part in ("gate_proj", "layer")
        for search in ("ddmin", "auto")
    ]
    console = Console(file=io.StringIO(), width=100)
    for table in tables_of(load(write_sweep(tmp_path, runs))):
        table.print(console)
    assert max(map(len, console.file.getvalue().splitlines())) <= 100  # type: ignore[attr-defined]


def test_the_found_sets_stand_beside_random_ones(tmp_path: Path) -> None:
    measured = ControlRecord(
        k=2,
        dsr=[Measure(value=0.1, n=40), Measure(value=0.3, n=40)],
        mean=0.2,
        interval=Measure(value=0.2, n=2, low=-0.01, high=0.4),
        found_dsr=Measure(value=0.9, n=40, low=0.8, high=0.95),
        reached=0,
        p_value=1 / 3,
    )
    runs = [with_evaluation(record(pair), random=measured) for pair in "ab"]
    table = controls_table(load(write_sweep(tmp_path, runs)))
    row = table.display.iloc[0]
    assert row["found set"] == "90.0 [80, 95]"
    assert row["as many units"] == "20.0 [0, 40]"
    assert row["reached, as many units"] == "0/2"
    assert row["p, as many units"] == "0.33"
    assert table.display.iloc[-1]["pair"] == "mean (n=2)"


def test_over_refusal_is_told_run_by_run_with_what_a_blind_judge_lacks(tmp_path: Path) -> None:
    blind = {"over_refusal": None, "over_refusals": {}, "no_over_refusal": {"guard": "it sees no refusals"}}
    table = over_refusal_table(load(write_sweep(tmp_path, [record("a"), with_subjects(record("b"), **blind)])))
    assert table.display[["pair", "set", "judge", "hybrid"]].to_numpy().tolist() == [
        ["a", "harmless", "phrases", "0.0"],
        ["b", "", "guard", "–"],
    ]
    assert "it sees no refusals" in table.about()


def test_methods_are_compared_over_the_pairs_that_all_have(tmp_path: Path) -> None:
    dsrs = {("a", "copy"): 0.9, ("b", "copy"): 0.8, ("a", "blend"): 0.5, ("b", "blend"): 0.3, ("c", "copy"): 0.1}
    runs = {
        (pair, how): record(pair, hybrid=dsr, identity=f"{pair}{how}".ljust(64, "0"))
        for (pair, how), dsr in dsrs.items()
    }
    sweep = write_sweep(tmp_path, list(runs.values()))
    for (_, how), run in runs.items():
        write_settings(sweep, run, {"transplant": {"method": how, **({"alpha": 0.5} if how == "blend" else {})}})
    table = methods_table(load(sweep))
    assert table.labels == 1, "alpha does not vary within a method"
    assert table.numbers[["transplant.method", "pairs", "runs"]].to_numpy().tolist() == [
        ["copy", 2, 3],
        ["blend", 2, 2],
    ]
    assert table.numbers["dsr"].tolist() == pytest.approx([0.85, 0.4])
    assert not has_methods(load(write_sweep(tmp_path / "other", [record("a"), record("b")])))
