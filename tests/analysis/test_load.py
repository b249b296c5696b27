from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from analysis.load import load
from tests.analysis.factory import name_of, record, write_failure, write_run, write_sweep


def test_a_row_a_run_in_the_records_words(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "miniature", [record("a", hybrid=0.925)], [record("b")])
    write_failure(sweep, record("b"), "boom")
    runs = load([sweep]).set_index("pair")
    assert runs.loc["a", "evaluate/hybrid/dsr/value"] == 0.925
    assert runs.loc["a", "search/ledger/queries"] == 20
    assert runs.loc["a", "evaluate/comparisons/student/gained"] == 36
    assert runs.loc["a", "units"] == "layers.0.mlp layers.1.mlp"
    assert runs.loc["b", "state"] == "failed"
    assert runs.loc["b", "reason"] == "search: boom"
    assert list(runs["experiment"]) == ["miniature", "miniature"]


def test_several_folders_are_taken_together_and_no_run_counts_twice(tmp_path: Path) -> None:
    first = write_sweep(tmp_path / "first", [record("a"), record("b")])
    second = write_sweep(tmp_path / "second", [record("c")])
    runs = load([first, second, first / name_of(record("a"))])
    assert list(runs["pair"]) == ["a", "b", "c"]
    assert list(runs["experiment"]) == ["first", "first", "second"]


def test_a_single_run(tmp_path: Path) -> None:
    runs = load([write_run(tmp_path, record("a"))])
    assert list(runs["pair"]) == ["a"]


def test_importing_needs_no_model_library() -> None:
    heavy = {"torch", "transformers", "wandb"}
    code = f"import sys, analysis.report, dapa_exp.record.mirror; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
