"""Pickled weights are read where that is asked for, and even then only tensors come out of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Model
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.tensors import TensorReader
from tests.tiny import tiny_checkpoint, tiny_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))


class Code:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def pickled(folder: Path, more: Mapping[str, object] | None = None) -> Path:
    tiny_checkpoint(folder, "llama", 1)
    (folder / "model.safetensors").unlink()
    torch.save({**tiny_model("llama", 1).state_dict(), **(more or {})}, folder / "pytorch_model.bin")
    return folder


def test_pickled_weights_are_read_only_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = str(pickled(tmp_path / "model"))
    with pytest.raises(DapaError, match="pickled weights are not read"):
        TensorReader(locate(Model(id=folder, revision=None), weights=True))
    reader = TensorReader(locate(Model(id=folder, revision=None, allow_pickle=True), weights=True))
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in tiny_model("llama", 1).state_dict().items())


def test_pickled_weights_keep_their_dtype_whatever_the_config_says(tmp_path: Path) -> None:
    file = pickled(tmp_path / "model") / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dtype": "bfloat16"}))
    reader = TensorReader(locate(Model(id=str(tmp_path / "model"), revision=None, allow_pickle=True), weights=True))
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in tiny_model("llama", 1).state_dict().items())


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    folder = str(pickled(tmp_path / "model", {"code": Code(tmp_path / "ran")}))
    with pytest.raises(DapaError, match="model: cannot be converted"):
        locate(Model(id=folder, revision=None, allow_pickle=True), weights=True)
    assert not (tmp_path / "ran").exists()
