"""Runs of a sweep measure a teacher and a student once, and find the same as runs that measure them themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dapa_exp.base.progress import silent
from dapa_exp.judges.phrases import Phrases
from dapa_exp.models.source import source_of
from dapa_exp.record.schema import Record
from dapa_exp.run import run
from tests.commands import Said
from tests.settings import quick_config

Dapa = Callable[..., Said]
ALL = ("evaluate.metrics=[over_refusal,perplexity,reasoning,divergence,change_by_layer]", "dataset.text.sample=4")
SHORT = ("dataset.questions.sample=8",)


def carry_out(folder: Path, *words: str) -> Record:
    return run(quick_config(*ALL, *SHORT, *words), folder, silent)


def reused(record: Record) -> dict[str, str]:
    return {name: run for stage in record.cost.values() for name, run in stage.reused.items()}


def tokens(record: Record) -> dict[str, int]:
    return {stage: cost.tokens for stage, cost in record.cost.items()}


def result(record: Record) -> dict[str, Any]:
    """All of a record but what it cost, and when."""
    return record.model_dump(
        exclude={"cost": True, "provenance": {"created"}, "search": {"ledger": {"seconds", "work"}}}
    )


def kept(folder: Path) -> dict[str, Any]:
    """A run's answers and numbers, without the search's."""
    files = [*folder.glob("generations/[!s]*.jsonl"), *folder.glob("generations/st*.jsonl"), *folder.glob("metrics/*")]
    return {str(file.relative_to(folder)): file.read_text() for file in files}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_that_shares_finds_the_same_as_one_that_does_not(tmp_path: Path, dtype: str) -> None:
    words = ("granularity=attention", f"runtime.dtype={dtype}", "evaluate.random_repeats=2")
    first = carry_out(tmp_path / "first", "granularity=mlp", *words[1:])
    second = carry_out(tmp_path / "second", *words)
    alone = carry_out(tmp_path / "alone", *words, "record.share=false")
    assert not reused(first)
    assert not reused(alone)
    assert set(reused(second).values()) == {"first"}
    assert min(tokens(first)[model] for model in ("teacher", "student")) > 0
    assert tokens(second)["teacher"] == tokens(second)["student"] == 0
    assert tokens(second)["search"] == tokens(alone)["search"]
    assert result(second) == result(alone)
    shutil.rmtree(tmp_path / "shared")
    assert kept(tmp_path / "second") == kept(tmp_path / "alone")


@pytest.mark.slow
def test_what_another_template_prompt_judge_or_dtype_gives_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(name: str, *words: str) -> dict[str, str]:
        config = quick_config("search=none", "evaluate.metrics=[over_refusal]", *words)
        return reused(run(config, tmp_path / name, silent))

    edited = tmp_path / "model"
    shutil.copytree(source_of(quick_config().pair.student).locate(True, silent), edited)
    (template,) = edited.glob("*.jinja")
    template.write_text(template.read_text().replace("{{", " {{", 1))

    taken("first")
    assert not taken("dtype", "runtime.dtype=bfloat16")
    by_template = taken("template", f"pair.student.id={edited}", "pair.chat_template=own")
    assert "generations/teacher-report.jsonl" in by_template
    assert not [name for name in by_template if "student" in name]
    by_prompt = taken("prompt", "dataset.report.rows=[96,111]")
    assert "generations/student-harmless.jsonl" in by_prompt
    assert not [name for name in by_prompt if "report" in name]
    monkeypatch.setattr(Phrases, "version", "another")
    by_judge = taken("judge")
    assert "generations/student-report.jsonl" in by_judge
    assert not [name for name in by_judge if name.startswith("metrics/")]


@pytest.mark.slow
def test_a_sweep_evaluates_each_model_once_and_keeps_no_distributions(here: Dapa, tmp_path: Path) -> None:
    words = ("-m", "granularity=mlp,attention,gate_proj", "dataset.search.rows=[0,16]", "dataset.report.rows=[96,112]")
    said = here("run", *words, "dataset.harmless.rows=[0,8]", *ALL, *SHORT, "evaluate.random_repeats=1")
    assert said.code == 0, said.err
    records = [json.loads(file.read_text()) for file in tmp_path.glob("single/*/record.json")]
    assert len(records) == 3
    for model in ("teacher", "student"):
        assert sum(record["cost"][model]["tokens"] > 0 for record in records) == 1
        assert sum(bool(record["cost"][model]["reused"]) for record in records) == 2
    assert not list(tmp_path.rglob("references"))
