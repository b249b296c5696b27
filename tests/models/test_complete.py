"""A checkpoint that does not fill its model is named as such, from its headers: no weight is made up, none is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dapa_exp.base.errors import DapaError
from dapa_exp.models.complete import read_whole
from tests.tiny import EVERY_CONFIG, tiny_checkpoint, tiny_model

Tensors = dict[str, torch.Tensor]


def changed(folder: Path, family: str, change: Callable[[Tensors], Tensors], **settings: int) -> Path:
    """A tiny checkpoint whose tensors went through a function after its config was written."""
    file = tiny_checkpoint(folder, family, 1, **settings) / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_every_architecture_is_filled_by_what_transformers_saves(tmp_path: Path, family: str) -> None:
    assert set(read_whole(tiny_checkpoint(tmp_path, family, 1))) == set(load_file(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_a_missing_tensor_is_named(tmp_path: Path, family: str) -> None:
    def without_one(tensors: Tensors) -> Tensors:
        del tensors[max(name for name in tensors if (".layers.1." in name and "down_proj" in name) or ".w2." in name)]
        return tensors

    with pytest.raises(DapaError, match=r"lacks 1 of the model's tensors, such as model\.layers\.\d\.mlp\S*down_proj"):
        read_whole(changed(tmp_path, family, without_one))


def test_a_head_may_be_missing_only_where_it_is_tied(tmp_path: Path) -> None:
    def headless(tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}

    assert read_whole(changed(tmp_path / "tied", "llama", headless, tie_word_embeddings=True))
    with pytest.raises(DapaError, match=r"lacks 1 of the model's tensors, such as lm_head\.weight"):
        read_whole(changed(tmp_path / "untied", "llama", headless, tie_word_embeddings=False))


@pytest.mark.parametrize("how", ["the same", "another", "in another dtype"])
def test_a_head_that_is_stored_though_it_is_tied_must_be_the_embeddings(tmp_path: Path, how: str) -> None:
    def with_head(tensors: Tensors) -> Tensors:
        head = tensors["model.embed_tokens.weight"].clone()
        others = {"the same": head, "another": head + 1, "in another dtype": head.half()}
        return {**tensors, "lm_head.weight": others[how]}

    folder = changed(tmp_path, "llama", with_head, tie_word_embeddings=True)
    if how == "the same":
        assert read_whole(folder)
    else:
        with pytest.raises(DapaError, match=r"tie_word_embeddings=true, and lm_head\.weight differs from model\.embed"):
            read_whole(folder)


def test_a_tensor_that_is_left_over_is_named(tmp_path: Path) -> None:
    with pytest.raises(DapaError, match=r"holds 1 tensors that have no place in the model, such as score\.weight"):
        read_whole(changed(tmp_path, "gemma", lambda tensors: {**tensors, "score.weight": torch.ones(2, 16)}))


def test_layers_beyond_those_of_the_config_are_left_over(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path, "llama", 1)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_hidden_layers": 2}))
    with pytest.raises(DapaError, match=r"holds 9 tensors that have no place in the model, such as model\.layers\.2\."):
        read_whole(folder)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model.", "transformer."])
def test_what_stands_before_every_name_is_said(tmp_path: Path, prefix: str) -> None:
    folder = changed(tmp_path, "llama", lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    with pytest.raises(DapaError, match=rf"lacks 30 of .* holds 30 tensors .*Every name begins with '{prefix}'"):
        read_whole(folder)


def test_a_model_without_its_head_is_told_what_its_names_lack(tmp_path: Path) -> None:
    tiny_model("gemma", 1).save_pretrained(tmp_path)
    tiny_model("gemma", 1).model.save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(DapaError, match=r"Every name lacks 'model\.' at its beginning"):
        read_whole(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_weights_that_are_quantised_without_a_word_in_the_config_are_refused(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    file = tiny_checkpoint(tmp_path, "llama", 1) / "model.safetensors"
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = load_file(file)
    save_file({**tensors, name: tensors[name].to(dtype)}, file, {"format": "pt"})
    with pytest.raises(DapaError, match=rf"{name}: quantised \((I8|F8_E4M3)\)"):
        read_whole(tmp_path)
