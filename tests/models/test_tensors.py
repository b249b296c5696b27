"""Tensors one by one: what is read is what was saved, and a damaged checkpoint is told before a weight is read."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dapa_exp.base.errors import DapaError
from dapa_exp.models.architecture import FIRST_HALF, SECOND_HALF, Part
from dapa_exp.models.tensors import INDEX, TensorReader
from tests.tiny import tiny_checkpoint, tiny_model


def sharded(folder: Path) -> Path:
    tiny_model("llama", 1).save_pretrained(folder, max_shard_size="8KB")
    return folder


def test_tensors_are_read_as_they_were_saved(tmp_path: Path) -> None:
    reader = TensorReader(tiny_checkpoint(tmp_path, "gemma", 3))
    saved = tiny_model("gemma", 3).state_dict()
    for name in reader:
        assert torch.equal(reader.read(name), saved[name])
        assert reader.tensors[name].shape == tuple(saved[name].shape)
        assert reader.tensors[name].bytes == saved[name].nbytes


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_noticed_from_its_header(tmp_path: Path, keep: int) -> None:
    (file,) = tiny_checkpoint(tmp_path, "llama", 1).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DapaError, match=r"model.safetensors: (truncated|not a whole safetensors file)"):
        TensorReader(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(DapaError, match="pickled weights are not read"):
        TensorReader(tmp_path)


def test_a_part_is_read_by_itself(tmp_path: Path) -> None:
    reader = TensorReader(tiny_checkpoint(tmp_path, "phi3", 1))
    name = "model.layers.1.mlp.gate_up_proj.weight"
    halves = [reader.read(Part(name, share)) for share in (FIRST_HALF, SECOND_HALF)]
    assert all(half.shape == Part(name, FIRST_HALF).shape(reader.tensors[name].shape) for half in halves)
    assert torch.equal(torch.cat(halves), reader.read(name))


def test_writing_to_what_was_read_leaves_the_file_alone(tmp_path: Path) -> None:
    reader = TensorReader(tiny_checkpoint(tmp_path, "llama", 1))
    reader.read("model.norm.weight").zero_()
    assert reader.read("model.norm.weight").any()


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    reader = TensorReader(sharded(tmp_path))
    save_file({"model.norm.weight": torch.zeros(16)}, tmp_path / "consolidated.safetensors")
    saved = tiny_model("llama", 1).state_dict()
    assert len({info.file for info in reader.tensors.values()}) > 2
    assert set(TensorReader(tmp_path)) == set(reader) == set(saved)
    assert all(torch.equal(reader.read(name), saved[name]) for name in reader)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shards = sorted(sharded(tmp_path).glob("*.safetensors"))
    shards[1].unlink()
    with pytest.raises(DapaError, match=rf"1 of {len(shards)} shards are missing: {shards[1].name}"):
        TensorReader(tmp_path)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    shard = sorted(sharded(tmp_path).glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(DapaError, match=rf"{shard.name}: truncated"):
        TensorReader(tmp_path)


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path) / INDEX
    content = json.loads(index.read_text())
    content["weight_map"]["lm_head.bias"] = content["weight_map"]["lm_head.weight"]
    index.write_text(json.dumps(content))
    with pytest.raises(DapaError, match=r"lacks the tensor lm_head\.bias"):
        TensorReader(tmp_path)


def test_a_tensor_that_its_index_leaves_out_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path) / INDEX
    content = json.loads(index.read_text())
    del content["weight_map"]["model.layers.1.mlp.up_proj.weight"]
    index.write_text(json.dumps(content))
    with pytest.raises(
        DapaError, match=r"holds the tensor model\.layers\.1\.mlp\.up_proj\.weight that .* not look for"
    ):
        TensorReader(tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"weight_map": null}', '{"weight_map": ["model.norm.weight"]}'])
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    (sharded(tmp_path) / INDEX).write_text(content)
    with pytest.raises(DapaError, match=rf"{INDEX}: not an index of shards"):
        TensorReader(tmp_path)


def test_an_index_without_metadata_is_told_how_to_mend_it(tmp_path: Path) -> None:
    index = sharded(tmp_path) / INDEX
    index.write_text(json.dumps({"weight_map": json.loads(index.read_text())["weight_map"]}))
    with pytest.raises(DapaError, match=rf'{INDEX}: lacks "metadata"'):
        TensorReader(tmp_path)


def test_rotary_frequencies_of_old_checkpoints_are_no_weights(tmp_path: Path) -> None:
    (file,) = tiny_checkpoint(tmp_path, "llama", 1).glob("*.safetensors")
    tensors = load_file(file)
    save_file({**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, file)
    assert set(TensorReader(tmp_path)) == set(tensors)


@pytest.mark.parametrize("header", ["[]", '{"a": {"dtype": "F32"}}', '{"a": 1}', '{"a": {"data_offsets": [0]}}'])
def test_a_header_that_describes_no_tensors_is_one_error(tmp_path: Path, header: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(DapaError, match=r"model\.safetensors: the safetensors header is damaged"):
        TensorReader(tmp_path)
