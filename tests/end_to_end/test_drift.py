"""Transplant, tune, transplant again: the weights are equal in every bit wherever they have to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import load
from analysis.tables.drift import drift_table
from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.cli.dispatch import main
from dapa_exp.config.schema import Config
from dapa_exp.drift import drift
from dapa_exp.zoo.build import build
from tests.settings import QUICK, quick_config

SET = "search.units=[layers.2.mlp,layers.3.mlp,layers.4.mlp]"
ROUNDS = 2


@pytest.fixture(scope="module", autouse=True)
def zoo() -> None:
    build(["mistral-chat", "mistral-task"], silent)


def settings(tuned: str, *words: str) -> Config:
    tuning = ("drift.tuning.steps=4", "drift.tuning.harmless.rows=[0,8]", f"drift.rounds={ROUNDS}")
    return quick_config("pair=shadow-mistral-task", "search=given", SET, f"drift.tuned={tuned}", *tuning, *words)


@pytest.mark.slow
@pytest.mark.parametrize("tuned", ["all", "inside", "outside"])
def test_the_found_units_are_the_teachers_again_in_every_round(tmp_path: Path, tuned: str) -> None:
    first, *rounds = drift(settings(tuned), tmp_path / "sweep" / "first", silent)
    assert len(rounds) == ROUNDS
    assert {record.transplant.digest for record in rounds} == {first.transplant.digest}
    assert len({record.pair.student.digest for record in (first, *rounds)}) == 1 + ROUNDS, "tuning changes something"
    for record in rounds:
        drifted = record.pair.drifted
        assert drifted is not None
        if tuned == "inside":
            assert drifted.equal_tensors == drifted.tensors, "the whole hybrid is the first one"
            assert record.evaluate.hybrid == first.evaluate.hybrid
        else:
            assert drifted.equal_tensors < drifted.tensors
        put_back = record.transplant.differing
        assert (put_back == 0) == (tuned == "outside"), "nothing is put back where no found unit was tuned"
    table = drift_table(load(tmp_path / "sweep")).display
    assert table[["tuned", "round", "units the teacher's"]].to_numpy().tolist() == [
        [tuned, str(number), "yes"] for number in range(1 + ROUNDS)
    ]


@pytest.mark.slow
def test_a_sweep_over_what_is_tuned_carries_out_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*QUICK, "pair=shadow-mistral-task", "search=given", SET, "drift.tuning.steps=1", "drift.rounds=1"]
    assert main(["drift", "-m", *words, "drift.tuning.harmless.rows=[0,8]", "drift.tuned=inside,outside"]) == 0
    table = drift_table(load(tmp_path / "multirun" / "single")).display
    assert table[["tuned", "round"]].to_numpy().tolist() == [
        [tuned, str(number)] for tuned in ("inside", "outside") for number in (0, 1)
    ]


def test_only_whole_units_of_the_teacher_can_be_put_back(tmp_path: Path) -> None:
    with pytest.raises(DapaError, match="transplant=blend: dapa drift transplants by copy only"):
        drift(settings("all", "transplant=blend"), tmp_path / "run", silent)
