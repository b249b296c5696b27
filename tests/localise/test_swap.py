"""One projection at a time: what counts as one, in every architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dapa_exp.localise.swap import Swapper, projections
from dapa_exp.models.load import load_model
from dapa_exp.models.pair import open_pair
from dapa_exp.tracing.forks import Fork, read
from dapa_exp.transplant.hybrid import Hybrid
from tests.tiny import EVERY_CONFIG
from tests.transplant.finished import config_of, sharded


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_every_matrix_of_a_layer_is_of_one_projection(tmp_path: Path, family: str) -> None:
    teacher, student = sharded(tmp_path / "teacher", family, 1), sharded(tmp_path / "student", family, 2)
    pair = open_pair(config_of(teacher, student, family=family))
    held = [part.tensor for parts in projections(pair, 1).values() for part in parts]
    matrices = {name for name, info in pair.student.tensors.items() if ".layers.1." in name and len(info.shape) == 2}
    assert matrices <= set(held)
    assert len(held) == len(set(held))


@pytest.mark.parametrize(("family", "word"), [("mixtral", "w1"), ("qwen3_moe", "gate_proj")])
def test_all_experts_of_a_mixture_are_swapped_together(tmp_path: Path, family: str, word: str) -> None:
    teacher, student = sharded(tmp_path / "teacher", family, 1), sharded(tmp_path / "student", family, 2)
    config = config_of(teacher, student, "granularity=gate_proj", "runtime.dtype=float32", family=family)
    pair, loaded = open_pair(config), load_model(student, config.runtime)
    forks = [Fork(name, context, range(2), 4, 6) for name, context in (("a", (3, 5, 7)), ("b", (9, 8, 2)))]
    swapper = Swapper(loaded, pair, forks, {"a": torch.ones(16), "b": torch.ones(16)}, 2)
    (measured,) = (swapped for swapped in swapper.layer(1) if swapped.module == word)
    Hybrid(loaded.model, pair).set_units(["layers.1.mlp.gate_proj"])
    change = read(loaded, forks, 2).log_odds - swapper.student.log_odds
    assert measured.log_odds_change.value == pytest.approx(change.mean().item()) != 0.0
