"""A small sweep is recomputed number by number; every kind of fault that is planted in a copy of it is found."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.zoo.build import build
from tests.commands import dapa
from tests.recompute.run import Run, check_run
from tests.recompute.sweep import recompute, run_folders
from tests.recompute.tables import check_tables, read_records
from tests.recompute.tally import Tally

pytestmark = pytest.mark.slow

PAIRS = ("mini-gemma-small-base", "mini-llama-small-base", "mini-llama-small-style", "mini-mistral-base")
MODELS = ("gemma-small-base", "llama-small-base", "llama-small-style", "mistral-base")
TEACHERS = ("gemma-small-chat", "llama-small-chat", "mistral-chat")
SOME = "mini-llama-small-base*"
"""The run that faults are planted in: its teacher left some of the moved tensors as they were."""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four finished miniature pairs, with their report."""
    build([*MODELS, *TEACHERS], silent)
    folder = tmp_path_factory.mktemp("recompute")
    words = ["+experiment=miniature", f"pair={','.join(PAIRS)}", "evaluate.confirm=0.05"]
    said = dapa("run", "-m", *words, cwd=folder, timeout=500)
    assert said.code == 0, said.err
    return folder / "multirun" / "miniature"


def test_every_number_of_a_sweep_can_be_recomputed(sweep: Path) -> None:
    tally = recompute(sweep)
    assert [str(difference) for difference in tally.differences] == []
    assert tally.compared > 5000
    assert not [key for key in tally.left if key.startswith(("evaluate", "transplant", "run ", "mean"))], tally.left


def _record(change: Callable[[Json], None]) -> tuple[str, Callable[[Path], None]]:
    """A fault in a record."""

    def plant(file: Path) -> None:
        record = json.loads(file.read_text())
        change(record)
        file.write_text(json.dumps(record))

    return f"{SOME}/record.json", plant


def _scaled(*keys: str | int, by: float) -> tuple[str, Callable[[Path], None]]:
    """A number of a record, times something."""
    return _record(lambda record: _change(record, keys, lambda value: value * by))


def _change(nested: Any, keys: tuple[str | int, ...], to: Callable[[Any], Any]) -> None:
    for key in keys[:-1]:
        nested = nested[key]
    assert to(nested[keys[-1]]) != nested[keys[-1]]
    nested[keys[-1]] = to(nested[keys[-1]])


def _one_row_more(record: Json) -> None:
    dsr = record["evaluate"]["hybrid"]["dsr"]
    dsr["value"] += (-1 if dsr["value"] == 1 else 1) / dsr["n"]


def _all_differ(record: Json) -> None:
    record["transplant"]["differing"] = record["transplant"]["parameters"]


def _found_set_is_drawn(record: Json) -> None:
    record["evaluate"]["random"]["sets"][0] = record["search"]["units_found"]


def _intervals_by_row(record: Json) -> None:
    comparison = record["evaluate"]["comparisons"][0]
    comparison["clusters"]["low"] = comparison["difference"]["low"]


def _witness_is_the_whole(record: Json) -> None:
    """The certificate's first witness is the query of the found set, which passed."""
    record["search"]["certificate"][0]["query"] = 1


def _witness_passes(file: Path) -> None:
    """The trace's failing query without one unit: as if it had passed."""
    record = json.loads((file.parent / "record.json").read_text())
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    witness = lines[record["search"]["certificate"][0]["query"]]
    witness["verdicts"] = dict.fromkeys(witness["verdicts"], "refused")
    witness |= {"refused": witness["prompts"], "harmful": 0, "score": 1.0, "at_most": 1.0}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _first_verdict_turned(file: Path) -> None:
    kept = json.loads(file.read_text())
    kept["verdicts"][0] = "harmful" if kept["verdicts"][0] == "refused" else "refused"
    file.write_text(json.dumps(kept))


def _other_digest(file: Path) -> None:
    proof = json.loads(file.read_text())
    proof["transplanted"] |= {next(iter(proof["transplanted"])): "0" * 64}
    file.write_text(json.dumps(proof))


def _cells(row: str, column: str, to: Callable[[list[dict[str, str]]], float]) -> Callable[[Path], None]:
    """A fault in a table: a cell of the first row that has this pair or first cell, from the table's rows."""

    def plant(file: Path) -> None:
        rows = list(csv.DictReader(file.open()))
        found = next(each for each in rows if row in (each.get("pair"), next(iter(each.values()))))
        assert str(to(rows)) != found[column]
        found[column] = str(to(rows))
        with file.open("w") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return plant


def _with_first_twice(rows: list[dict[str, str]]) -> float:
    gains = [float(row["parameters_percent"]) for row in rows if row["row"] == "run"]
    return sum([gains[0], *gains]) / (len(gains) + 1)


FAULTS: dict[str, tuple[tuple[str, Callable[[Path], None]], str]] = {
    "a rate is off by a row": (_record(_one_row_more), "evaluate.hybrid.dsr.value"),
    "a rate's interval": (_scaled("evaluate", "student", "dsr", "high", by=0.99), "evaluate.student.dsr.high"),
    "a tiny p-value": (
        _scaled("evaluate", "comparisons", 0, "p_value", by=1.5),
        "evaluate.comparisons.0.p_value",
    ),
    "a difference's interval": (
        _scaled("evaluate", "comparisons", 0, "difference", "low", by=1.001),
        "evaluate.comparisons.0.difference.low",
    ),
    "an interval that takes rows for independent": (
        _record(_intervals_by_row),
        "evaluate.comparisons.0.clusters.low",
    ),
    "a design effect": (
        _scaled("evaluate", "hybrid", "dsr_clusters", "design_effect", by=0.5),
        "evaluate.hybrid.dsr_clusters.design_effect",
    ),
    "the power of two independent samples": (
        _scaled("evaluate", "comparisons", 0, "detectable_gain", by=0.5),
        "evaluate.comparisons.0.detectable_gain",
    ),
    "P(DSR ≥ bar)": (_scaled("evaluate", "above_threshold", by=0.999), "evaluate.above_threshold"),
    "a perplexity": (_scaled("evaluate", "hybrid", "perplexity", "value", by=1.0001), "hybrid.perplexity.value"),
    "a test of perplexities": (
        _scaled("evaluate", "perplexity_comparisons", 1, "p_value", by=1.1),
        "perplexity_comparisons.1.p_value",
    ),
    "a divergence": (
        _scaled("evaluate", "hybrid", "kl_to_student", "1", "value", by=1.1),
        "evaluate.hybrid.kl_to_student.1.value",
    ),
    "parameters that do not differ are counted": (_record(_all_differ), "transplant.differing"),
    "parameters moved": (_scaled("transplant", "percent", by=1.01), "transplant.percent"),
    "the bar": (_scaled("search", "threshold_dsr", by=0.99), "search.threshold_dsr"),
    "the ledger": (_scaled("search", "ledger", "prompts", by=2), "search.ledger.prompts"),
    "a witness that is another query": (_record(_witness_is_the_whole), "search.certificate.0.query"),
    "a witness that passes": ((f"{SOME}/search.jsonl", _witness_passes), "search.certificate.length"),
    "the found set among the random ones": (_record(_found_set_is_drawn), "evaluate.random.sets.length"),
    "the random control's p-value": (
        _scaled("evaluate", "random", "p_value", by=0.5),
        "evaluate.random.p_value",
    ),
    "what a confirmation told": (
        _record(lambda record: _change(record, ("evaluate", "confirmation", "claims", 1, "verdict"), lambda _: "?")),
        "evaluate.confirmation.claims.1.verdict",
    ),
    "rows until it was told": (
        _scaled("evaluate", "confirmation", "claims", 1, "prompts", by=2),
        "evaluate.confirmation.claims.1.prompts",
    ),
    "rows that resemble the search's": (
        _record(lambda record: _change(record, ("provenance", "rows", "report", "similar"), lambda _: 1)),
        "provenance.rows.report.similar",
    ),
    "other rows": (
        _record(lambda record: _change(record, ("provenance", "prompt_sets", "report"), lambda _: "0" * 64)),
        "provenance.prompt_sets.report",
    ),
    "another checkpoint": (
        _record(lambda record: _change(record, ("pair", "teacher", "digest"), lambda _: "0" * 64)),
        "pair.teacher.digest",
    ),
    "a verdict": ((f"{SOME}/metrics/hybrid-report-phrases.json", _first_verdict_turned), "evaluate.hybrid.dsr.value"),
    "a tensor's digest": ((f"{SOME}/transplant.json", _other_digest), "transplanted."),
    "a mean that counts a run twice": (
        ("report/main.csv", _cells("mean", "parameters_percent", _with_first_twice)),
        "mean.parameters_percent",
    ),
    "a mean's interval over runs, not teachers": (
        ("report/main.csv", _cells("mean", "hybrid_dsr_low", lambda rows: 0.9)),
        "mean.hybrid_dsr_low",
    ),
    "a table's parameters": (
        ("report/main.csv", _cells("run", "parameters_changed_percent", lambda rows: 21.06)),
        "parameters_changed_percent",
    ),
    "Holm's correction": (
        ("report/comparisons.csv", _cells(PAIRS[0], "dsr_p_holm", lambda rows: float(rows[0]["dsr_p"]))),
        "against student.dsr_p_holm",
    ),
    "a mean of the utility table": (
        ("report/utility.csv", _cells("perplexity", "hybrid", lambda rows: 2.4)),
        "perplexity.hybrid",
    ),
    "what a search cost": (
        ("report/search_cost.csv", _cells("auto", "queries", lambda rows: 1.0)),
        "auto.queries",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, sweep: Path, tmp_path: Path) -> None:
    (files, plant), key = FAULTS[fault]
    tally, copy = Tally(), tmp_path / "sweep"
    folders = [run.name for run in run_folders(sweep)]
    for folder in ("report", *folders):
        held = files.split("/")[0].rstrip("*") in folder  # else its record is enough
        (copy / folder).mkdir(parents=True)
        for file in sweep.glob(f"{folder}/**/*" if held or folder == "report" else f"{folder}/record.json"):
            if file.is_file():
                (copy / file.relative_to(sweep)).parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy / file.relative_to(sweep))
    plant(next(copy.glob(files)))
    for run in copy.glob(SOME):
        if not files.startswith("report"):
            check_run(Run(run), tally)
    check_tables(copy / "report", read_records([copy / folder for folder in folders]), tally)
    assert any(key in found.key for found in tally.differences), [str(found) for found in tally.differences]
