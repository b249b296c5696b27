"""Loading for generation: dtypes, devices, and checkpoints that lack something."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dapa_exp.config.schema import Runtime
from dapa_exp.errors import DapaError
from dapa_exp.models.load import load_model
from dapa_exp.zoo import tokenizer as tokenizers
from tests.settings import quick_config
from tests.tiny import tiny_checkpoint, tiny_model


def runtime(**changed: str) -> Runtime:
    return quick_config().runtime.model_copy(update={"device": "cpu", "dtype": "float32", **changed})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tokenizer = tokenizers.make("llama")
    tokenizer.save_pretrained(tmp_path)
    return tiny_checkpoint(tmp_path, "llama", 1, vocab_size=len(tokenizer))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_weights_are_those_of_the_checkpoint_in_the_dtype_asked_for(checkpoint: Path, dtype: str, device: str) -> None:
    loaded = load_model(checkpoint, runtime(dtype=dtype, device=device))
    (file,) = checkpoint.glob("*.safetensors")
    saved = load_file(file)
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, saved[name].to(getattr(torch, dtype)))


def test_shards_are_loaded(checkpoint: Path) -> None:
    whole = load_model(checkpoint, runtime()).model.state_dict()
    loaded = load_model(checkpoint, runtime()).model
    (checkpoint / "model.safetensors").unlink()
    loaded.save_pretrained(checkpoint, max_shard_size="8KB")
    assert len(list(checkpoint.glob("*.safetensors"))) > 2
    sharded = load_model(checkpoint, runtime()).model.state_dict()
    assert all(torch.equal(tensor, sharded[name]) for name, tensor in whole.items())


def test_a_tensor_that_is_not_there_is_not_made_up(checkpoint: Path) -> None:
    (file,) = checkpoint.glob("*.safetensors")
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(DapaError, match=r"lacks 1 of the model's tensors, such as model\.layers\.1\.mlp\.up_proj"):
        load_model(checkpoint, runtime())


def test_a_checkpoint_of_other_shapes_is_one_error(checkpoint: Path) -> None:
    tiny_model("llama", 1, vocab_size=80).save_pretrained(checkpoint / "other")
    (checkpoint / "other" / "model.safetensors").replace(checkpoint / "model.safetensors")
    with pytest.raises(DapaError, match="cannot be loaded"):
        load_model(checkpoint, runtime())
