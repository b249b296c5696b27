"""The benchmark of real sizes, on a tiny shape."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

import dapa_exp.engine.make
from dapa_exp.base.progress import silent
from dapa_exp.models.load import LoadedModel, load_model
from dapa_exp.run import run
from tests.benchmarks.scale import main
from tests.settings import quick_config


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Nothing frees a model that refers to itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_the_teacher_has_left_memory_before_the_student_comes(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[ref[Any]] = []

    def load(*arguments: Any, **settings: Any) -> LoadedModel:
        assert not any(model() for model in loaded), "two models are in memory"
        found = load_model(*arguments, **settings)
        loaded.append(ref(found.model))
        return found

    monkeypatch.setattr(dapa_exp.engine.make, "load_model", load)
    run(quick_config(f"runtime.engine={engine}"), tmp_path / "run", silent)
    assert len(loaded) == 2


@pytest.mark.slow
def test_a_tiny_shape_goes_through_all_stages(tmp_path: Path) -> None:
    main(["--smoke", "--json", str(tmp_path / "scale.json")])
    found = json.loads((tmp_path / "scale.json").read_text())
    measured = {target["name"]: target["measured"] for target in found["targets"]}
    assert measured["run: certified"] == measured["run: the known set found"] == 1
    assert measured["run: plan's memory, share off"] < 0.3
    assert measured["run: plan's disk, share off"] < 0.3
    assert measured["answers: answers that differ"] == 0
    (answers,) = (row for row in found["rows"] if row["stage"] == "answers")
    for rows in ("early", "late"):
        assert answers[f"{rows}_shortest"] < answers[f"{rows}_longest"] == 24, "rows of one length would show nothing"
