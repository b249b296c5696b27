"""Pickled weights are read where that is asked for, and even then only tensors come out of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.config.models import Model
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.complete import read_whole
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


def located(folder: Path) -> Path:
    return locate(Model(id=str(folder), revision=None, allow_pickle=True), weights=True)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model.", "transformer."])
def test_a_wrapper_before_every_name_makes_no_random_student(tmp_path: Path, prefix: str) -> None:
    folder = pickled(tmp_path / "model")
    torch.save({prefix + k: v for k, v in tiny_model("llama", 1).state_dict().items()}, folder / "pytorch_model.bin")
    with pytest.raises(DapaError, match=rf"Every name begins with '{prefix}'"):
        read_whole(located(folder))


def test_a_layer_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = pickled(tmp_path / "model")
    kept = {k: v for k, v in tiny_model("llama", 1).state_dict().items() if ".layers.1." not in k}
    torch.save(kept, folder / "pytorch_model.bin")
    with pytest.raises(DapaError, match=r"lacks 9 of the model's tensors, such as model\.layers\.1\.input_layernorm"):
        read_whole(located(folder))


def test_a_classifier_keeps_its_head_and_is_no_causal_model(tmp_path: Path) -> None:
    folder = pickled(tmp_path / "model", {"score.weight": torch.ones(2, 16)})
    assert torch.equal(TensorReader(located(folder)).read("score.weight"), torch.ones(2, 16))
    with pytest.raises(DapaError, match=r"have no place in the model, such as score\.weight"):
        read_whole(located(folder))


def test_pickled_shards_are_read_by_their_index(tmp_path: Path) -> None:
    folder, expected = pickled(tmp_path / "model"), tiny_model("llama", 1).state_dict()
    (folder / "pytorch_model.bin").unlink()
    names, shards = list(expected), ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    for shard, within in zip(shards, (names[:9], names[9:]), strict=True):
        torch.save({name: expected[name] for name in within}, folder / shard)
    shard_of = {name: shards[place >= 9] for place, name in enumerate(names)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    reader = read_whole(located(folder))
    assert set(reader) == set(expected)
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in expected.items())


def test_a_training_checkpoint_around_the_weights_is_named(tmp_path: Path) -> None:
    folder = pickled(tmp_path / "model")
    torch.save({"epoch": 3, "state_dict": tiny_model("llama", 1).state_dict()}, folder / "pytorch_model.bin")
    with pytest.raises(DapaError, match=r"pytorch_model\.bin: holds 'epoch', which is no tensor"):
        located(folder)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    folder = str(pickled(tmp_path / "model", {"code": Code(tmp_path / "ran")}))
    with pytest.raises(DapaError, match="model: cannot be converted"):
        locate(Model(id=folder, revision=None, allow_pickle=True), weights=True)
    assert not (tmp_path / "ran").exists()
