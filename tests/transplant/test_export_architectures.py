"""Every row of the architecture table through the real export: what transformers loads is the hybrid in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.cli.compose import jobs
from dapa_exp.config.models import Model
from dapa_exp.config.schema import Config
from dapa_exp.config.search import Granularity
from dapa_exp.models.pair import open_pair
from dapa_exp.transplant.export.export import apply, export
from dapa_exp.transplant.export.finished import open_finished
from dapa_exp.transplant.hybrid import Hybrid
from tests.models.test_architecture import PROJECTIONS, ROWS
from tests.tiny import model_at
from tests.transplant.finished import finish, sharded

CASES = [(family, modules) for family, modules in ROWS if modules in (("layer",), PROJECTIONS, ("router",))]
"""Every row in whole layers, and by projections: some share a tensor, others have one for each expert."""
TOKENS = torch.tensor([[3, 14, 15, 9, 26, 5, 35]])
Folders = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Teacher and student of a family, sharded, made once."""

    @cache
    def make(family: str) -> tuple[Path, Path]:
        root = tmp_path_factory.mktemp(family)
        return sharded(root / "teacher", family, 1), sharded(root / "student", family, 2)

    return make


@cache
def composed() -> Config:
    return jobs([])[0].config


def config_of(teacher: Path, student: Path, family: str, modules: tuple[str, ...]) -> Config:
    """The config of a run on two folders."""
    base = composed()
    models = [Model(id=str(folder), revision=None) for folder in (teacher, student)]
    return base.model_copy(
        update={
            "family": base.family.model_copy(update={"teacher": models[0], "model_type": family}),
            "pair": base.pair.model_copy(update={"student": models[1]}),
            "granularity": Granularity.model_validate({"name": "tested", "modules": modules}),
        }
    )


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(TOKENS).logits
    return found


@pytest.mark.parametrize(("family", "modules"), CASES)
def test_what_transformers_loads_is_the_hybrid_in_memory(
    folders: Folders, tmp_path: Path, family: str, modules: tuple[str, ...]
) -> None:
    teacher, student = folders(family)
    config = config_of(teacher, student, family, modules)
    pair = open_pair(config)
    chosen = list(pair.units)[1::2]
    in_memory = AutoModelForCausalLM.from_pretrained(student)
    alone = logits(in_memory)
    Hybrid(in_memory, pair).set_units(chosen)

    run = open_finished(finish(tmp_path / "run", config, chosen))
    export(run, tmp_path / "whole", "checkpoint")
    export(run, tmp_path / "patch", "patch")
    apply(tmp_path / "patch", model_at(student), tmp_path / "patched")

    found: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", output_loading_info=True)
    loaded, told = found
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits(loaded), logits(in_memory))
    assert not torch.equal(logits(loaded), alone)
    whole, patched = ({file.name: file.read_bytes() for file in (tmp_path / n).iterdir()} for n in ("whole", "patched"))
    assert whole == patched


def test_a_tensor_that_two_units_share_is_one_changed_tensor(folders: Folders, tmp_path: Path) -> None:
    config = config_of(*folders("phi3"), "phi3", PROJECTIONS)
    run = open_finished(finish(tmp_path / "run", config, list(open_pair(config).units)[:3]))
    export(run, tmp_path / "out", "checkpoint")
    assert len(run.tensors.changed) == 2
    assert "parameters in 2 tensors" in (tmp_path / "out" / "README.md").read_text()
