"""Neurons chosen by attribution: from a run to its export."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.export import export_command
from dapa_exp.record.schema import Record
from tests.commands import Said
from tests.settings import quick

WORDS = quick(
    "pair=mini-llama-small-style", "transplant=swap_neurons", "transplant.share=0.3", "transplant.by=attribution"
)
MLP_PARAMETERS = 8 * 3 * 64 * 176
"""Three matrices in each of the miniature's eight layers."""


@pytest.mark.slow
def test_a_run_chooses_neurons_and_its_export_finds_them_again(here: Callable[..., Said], tmp_path: Path) -> None:
    said = here(*WORDS, "search=all")
    assert said.code == 0, said.err
    (run,) = (file.parent for file in tmp_path.glob("single/*/record.json"))
    record = Record.model_validate_json((run / "record.json").read_text())
    assert 0.25 < record.transplant.parameters / MLP_PARAMETERS < 0.35
    assert {scores.shape for scores in load_file(run / "neurons.safetensors").values()} == {(176,)}
    assert export_command([str(run), str(tmp_path / "aligned")]) == 0
    shutil.copytree(run, tmp_path / "without", ignore=shutil.ignore_patterns("neurons.safetensors"))
    with pytest.raises(DapaError, match=r"neurons\.safetensors: missing or damaged"):
        export_command([str(tmp_path / "without"), str(tmp_path / "again")])
