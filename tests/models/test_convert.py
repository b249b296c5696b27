"""GGUF and LoRA adapters become ordinary checkpoints, once; everything after reads those."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.base.errors import DapaError
from dapa_exp.base.files import leftovers
from dapa_exp.base.gguf import read_gguf
from dapa_exp.config.models import Model
from dapa_exp.models.checkpoint import locate, read_config
from dapa_exp.models.complete import read_whole
from dapa_exp.models.source import source_of
from dapa_exp.models.tensors import TensorReader
from dapa_exp.zoo import tokenizer as tokenizers
from tests.gguf_file import Change, Vocabulary, write_gguf
from tests.tiny import SHAPE, model_at, tiny_checkpoint, tiny_model

SIZE = {"hidden_size": 32, "intermediate_size": 64, "head_dim": 16, "vocab_size": 64}
"""Rows of whole blocks of 32, which is what GGUF quantises."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


WORDS = Vocabulary(
    tokens=[*(chr(65 + i) for i in range(SIZE["vocab_size"] - 1)), "AB"],
    merges=["A B"],
    begin=0,
    end=1,
    template="{{ messages[0].content }}",
)


def tiny_gguf(file: Path, quantised: str, change: Change = lambda _: None) -> dict[str, torch.Tensor]:
    """A tiny Llama; gives its values by transformers' names."""
    return write_gguf(file, tiny_model("llama", 1, **SIZE), WORDS, quantised, change)


def test_a_gguf_folder_becomes_a_checkpoint_of_the_same_values(tmp_path: Path) -> None:
    expected = tiny_gguf(tmp_path / "model" / "tiny.gguf", "_proj")
    folder = locate(model_at(tmp_path / "model"), weights=True)
    reader = TensorReader(folder)
    assert set(reader) == set(expected)
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in expected.items())
    config = read_config(folder)
    assert (config["num_hidden_layers"], config["hidden_size"]) == (SHAPE["num_hidden_layers"], SIZE["hidden_size"])
    assert AutoTokenizer.from_pretrained(folder).chat_template == "{{ messages[0].content }}"


def test_a_gguf_files_tokenizer_has_the_special_tokens_that_the_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_gguf(tmp_path / "tiny.gguf", "nothing")
    usual = AutoTokenizer.from_pretrained

    def confused(*words: Any, **options: Any) -> Any:
        tokenizer = usual(*words, **options)
        tokenizer.eos_token = tokenizer.bos_token  # as transformers 5.17 reads some files
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", confused)
    _, tokenizer = read_gguf(tmp_path / "tiny.gguf")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (WORDS.begin, WORDS.end)


def test_a_gguf_file_is_converted_once(tmp_path: Path, cache: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", "nothing")
    first = locate(model_at(tmp_path / "a.gguf"), weights=True)
    written = (first / "model.safetensors").stat().st_mtime_ns
    again = locate(model_at(tmp_path / "a.gguf"), weights=False)
    assert (again, (again / "model.safetensors").stat().st_mtime_ns) == (first, written)
    assert not leftovers(first.parent)


def test_a_folder_of_several_gguf_files_asks_which(tmp_path: Path) -> None:
    for name in ("q4.gguf", "q8.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(DapaError, match=r"holds 2 GGUF files; name one, such as .*q4\.gguf"):
        locate(model_at(tmp_path), weights=True)


def test_a_gguf_file_that_is_neither_here_nor_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(DapaError, match=r"named owner/name/file\.gguf, one here starts with / or \./"):
        locate(Model(id="model.gguf", revision=None), weights=True)
    with pytest.raises(DapaError, match=r"no such file .*model\.gguf"):
        locate(model_at(tmp_path / "model.gguf"), weights=True)


def test_a_part_of_a_gguf_model_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    parts = [tmp_path / "model" / f"tiny-0000{number}-of-00002.gguf" for number in (1, 2)]
    tiny_gguf(parts[0], "nothing")
    parts[1].touch()
    for name in (tmp_path / "model", parts[0]):
        with pytest.raises(DapaError, match=r"tiny-00001-of-00002\.gguf: one of 2 parts of a model; .* --merge"):
            locate(model_at(name), weights=True)
    with pytest.raises(DapaError, match="one of 3 parts"):
        locate(Model(id="me/model/q4-00001-of-00003.gguf", revision=None), weights=True)
    tiny_gguf(tmp_path / "renamed.gguf", "nothing", lambda writer: writer.add_uint16("split.count", 2))
    with pytest.raises(DapaError, match=r"renamed\.gguf: one of 2 parts of a model"):
        locate(model_at(tmp_path / "renamed.gguf"), weights=True)


def test_a_gguf_file_without_a_layer_is_refused(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", "nothing", lambda writer: writer.add_block_count(SHAPE["num_hidden_layers"] + 1))
    with pytest.raises(DapaError, match=r"a\.gguf: lacks 9 of the model's tensors, such as model\.layers\.3\."):
        locate(model_at(tmp_path / "a.gguf"), weights=True)


def test_a_gguf_file_with_more_than_its_model_has_is_refused(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", "nothing", lambda writer: writer.add_tensor("blk.3.extra", np.ones(5, np.float32)))
    with pytest.raises(DapaError, match=r"holds 31,973 numbers, and the model .* such as blk\.3\.extra"):
        locate(model_at(tmp_path / "a.gguf"), weights=True)


@pytest.mark.parametrize(
    ("scaled", "said"),
    [
        (lambda writer: writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32)), r"rope_freqs\.weight"),
        (lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), r"rope\.scaling\.type linear"),
    ],
)
def test_positions_whose_scaling_would_be_lost_are_refused(tmp_path: Path, scaled: Change, said: str) -> None:
    tiny_gguf(tmp_path / "a.gguf", "nothing", scaled)
    with pytest.raises(DapaError, match=rf"scales its positions \({said}\), which cannot be read from GGUF"):
        locate(model_at(tmp_path / "a.gguf"), weights=True)


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_damaged_gguf_file_is_named_and_nothing_is_kept(tmp_path: Path, cache: Path, keep: int) -> None:
    file = tmp_path / "cut.gguf"
    tiny_gguf(file, "nothing")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DapaError, match=r"cut\.gguf: cannot be converted"):
        locate(model_at(file), weights=True)
    assert not [kept for kept in cache.glob("converted/*") if kept.is_dir()]


def write_adapter(
    tmp_path: Path, tokens: int = SHAPE["vocab_size"], tied: bool = False, **more: Any
) -> tuple[Path, torch.nn.Module]:
    """A LoRA adapter of a tiny model, its matrices drawn at random, and the model that it gives."""
    base = tiny_checkpoint(tmp_path / "base", "llama", 1, tie_word_embeddings=tied)
    torch.manual_seed(5)
    settings = {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **more}
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(tokens)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter", adapted.merge_and_unload()


def change_adapter(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


def change_config(adapter: Path, **values: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_an_adapter_is_merged_into_its_base(tmp_path: Path) -> None:
    adapter, expected = write_adapter(tmp_path)
    tokenizers.make("llama").save_pretrained(adapter)
    folder = locate(model_at(adapter), weights=True)
    reader, base = TensorReader(folder), TensorReader(tmp_path / "base")
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in expected.state_dict().items())
    changed = {name.split(".")[-2] for name in reader if not torch.equal(reader.read(name), base.read(name))}
    assert changed == {"q_proj", "down_proj"}
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert read_config(folder) == read_config(locate(model_at(adapter), weights=False))


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja", None])
def test_a_merged_adapter_has_its_own_template_or_else_its_bases_wherever_they_lie(
    tmp_path: Path, place: str | None
) -> None:
    adapter, _ = write_adapter(tmp_path)
    tokenizer = tokenizers.make("llama")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text("the base's {{ messages[0].content }}")
    tokenizer.chat_template = "its own {{ messages[0].content }}" if place else None
    tokenizer.save_pretrained(adapter, save_jinja_files=place == "chat_template.jinja")
    assert (adapter / "chat_template.jinja").is_file() == (place == "chat_template.jinja")
    merged = AutoTokenizer.from_pretrained(locate(model_at(adapter), weights=True))
    assert str(merged.chat_template).startswith("its own" if place else "the base's")


def test_a_merged_adapter_has_none_of_its_bases_special_tokens(tmp_path: Path) -> None:
    """The base's special_tokens_map.json, which older versions wrote, would win over the adapter's config."""
    adapter, _ = write_adapter(tmp_path)
    tokenizer = tokenizers.make("llama")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "special_tokens_map.json").write_text('{"eos_token": "</s>", "pad_token": "</s>"}')
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    tokenizer.save_pretrained(adapter)
    merged = AutoTokenizer.from_pretrained(locate(model_at(adapter), weights=True))
    assert (merged.eos_token, merged.pad_token) == ("<|im_end|>", "<pad>")


def test_a_base_that_cannot_be_read_is_told_with_the_key_that_names_it(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path)
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": {"quant_method": "awq"}}))
    for base, said in {"/home/me/llama": "no such folder /home/me/llama", "": r"base: quantised \(awq\)"}.items():
        change_config(adapter, base_model_name_or_path=base or str(tmp_path / "base"))
        with pytest.raises(DapaError, match=rf"adapter: its base: .*{said}.*names it in base_model_name_or_path"):
            locate(model_at(adapter), weights=False)


def test_a_base_is_merged_in_the_dtype_of_its_weights_whatever_its_config_says(tmp_path: Path) -> None:
    adapter, expected = write_adapter(tmp_path)
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dtype": "bfloat16"}))
    reader = TensorReader(locate(model_at(adapter), weights=True))
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in expected.state_dict().items())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": {"embed_tokens": [64, 65]}},
        {"use_dora": True, "modules_to_save": ["norm"]},
    ],
)
def test_an_adapter_with_added_tokens_brings_their_embeddings(tmp_path: Path, more: dict[str, Any]) -> None:
    adapter, expected = write_adapter(tmp_path, SHAPE["vocab_size"] + 2, **more)
    folder = locate(model_at(adapter), weights=True)
    reader = read_whole(folder)
    assert reader.tensors["model.embed_tokens.weight"].shape == (66, 16)
    assert read_config(folder)["vocab_size"] == 66
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(reader.read(name), tensor, rtol=1e-6, atol=1e-7, msg=name)


def test_added_tokens_of_one_end_only_are_refused(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path, 66)
    change_adapter(adapter, lambda saved: {name: t for name, t in saved.items() if "lm_head" not in name})
    with pytest.raises(DapaError, match="has embeddings for 66 tokens, but holds no lm_head for them"):
        locate(model_at(adapter), weights=True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # peft's, of the same
@pytest.mark.parametrize("end", ["embed_tokens", "lm_head"])
def test_an_adapter_of_one_end_is_refused_where_both_are_one_tensor(tmp_path: Path, end: str) -> None:
    """peft trains it for one end, and merges it into both: the model would be another than the one that was trained."""
    adapter, _ = write_adapter(tmp_path, tied=True, target_modules=["q_proj", end])
    with pytest.raises(DapaError, match=f"adapts {end}, and in the base embed_tokens and lm_head are one tensor"):
        locate(model_at(adapter), weights=True)


@pytest.mark.parametrize("more", [{}, {"trainable_token_indices": {"embed_tokens": [3, 4]}}])
def test_an_adapter_on_a_model_whose_ends_are_one_tensor_is_merged(tmp_path: Path, more: dict[str, Any]) -> None:
    adapter, expected = write_adapter(tmp_path, tied=True, **more)
    reader = read_whole(locate(model_at(adapter), weights=True))
    assert all(torch.equal(reader.read(name), expected.state_dict()[name]) for name in reader)


def test_an_adapter_whose_names_do_not_match_its_base_is_refused(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path)
    change_adapter(adapter, lambda saved: {name.replace("model.model.", "model."): t for name, t in saved.items()})
    with pytest.raises(
        DapaError,
        match=r"adapter_model\.safetensors: lacks 12 of .*layers\.0\.mlp\.down_proj\.lora_A.*holds 12 tensors that",
    ):
        locate(model_at(adapter), weights=True)


def test_an_adapter_that_lacks_a_matrix_is_refused(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path, modules_to_save=["norm"])
    file = adapter / "adapter_model.safetensors"
    parts = {"layers.1.mlp.down_proj.lora_B": "lacks 1 of the model's tensors, such as", "model.norm.": "KeyError:"}
    for part, said in parts.items():
        saved = load_file(file)
        save_file({name: tensor for name, tensor in saved.items() if part not in name}, file)
        with pytest.raises(DapaError, match=rf"{said} \S+{part}"):
            locate(model_at(adapter), weights=True)
        save_file(saved, file)


def test_an_adapter_that_adds_nothing_is_refused(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path, init_lora_weights=True)
    with pytest.raises(DapaError, match="all that it would add is zero: it was never trained"):
        locate(model_at(adapter), weights=True)


def test_an_adapter_that_is_scaled_to_nothing_is_refused(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path)
    change_config(adapter, lora_alpha=0)
    with pytest.raises(DapaError, match=r"all that it would add is zero: .* or its lora_alpha is 0"):
        locate(model_at(adapter), weights=True)


def test_an_adapter_with_another_base_is_another_model_and_one_on_itself_is_none(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path)
    change_config(adapter, base_model_name_or_path=str(tmp_path / "base"))
    before = source_of(model_at(adapter)).essence()
    tiny_checkpoint(tmp_path / "base", "llama", 2)
    assert source_of(model_at(adapter)).essence() != before
    change_config(adapter, base_model_name_or_path=str(adapter))
    for ask in (source_of(model_at(adapter)).essence, lambda: locate(model_at(adapter), weights=True)):
        with pytest.raises(DapaError, match=r"base_model_name_or_path leads back to the adapter itself"):
            ask()


def test_an_adapter_of_another_kind_is_refused(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "peft_type": "PREFIX_TUNING"}))
    with pytest.raises(DapaError, match="an adapter of type PREFIX_TUNING; only LORA can be merged"):
        locate(model_at(adapter), weights=True)


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(DapaError, match=r"no adapter_model\.safetensors"):
        locate(model_at(adapter), weights=True)


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    adapter, _ = write_adapter(tmp_path)
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DapaError, match="adapter: cannot be converted"):
        locate(model_at(adapter), weights=True)
