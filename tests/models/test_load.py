"""Loading for generation: dtypes, devices, and checkpoints that lack something."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Runtime
from dapa_exp.engine.make import make_engine
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.models.load import LoadedModel, choose_attention, load_model
from dapa_exp.prompts.prompt import prompt
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


@pytest.mark.parametrize(("device", "left_in"), [("cuda", False), ("cuda:1", False), ("auto", False), ("cpu", True)])
def test_attention_that_plans_for_each_length_is_left_out_on_a_gpu(device: str, left_in: bool) -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        choose_attention(device)
        assert torch.backends.cuda.cudnn_sdp_enabled() == left_in
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


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


def test_a_head_of_its_own_in_a_model_that_says_it_has_none_is_an_error(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with pytest.raises(DapaError, match=r"tie_word_embeddings=true, and lm_head\.weight differs"):
        load_model(checkpoint, runtime())


def test_a_checkpoint_of_other_shapes_is_one_error(checkpoint: Path) -> None:
    tiny_model("llama", 1, vocab_size=80).save_pretrained(checkpoint / "other")
    (checkpoint / "other" / "model.safetensors").replace(checkpoint / "model.safetensors")
    with pytest.raises(DapaError, match="cannot be loaded"):
        load_model(checkpoint, runtime())


def test_a_padding_token_that_the_embeddings_have_no_row_for_is_not_used(checkpoint: Path) -> None:
    tokenizer = tokenizers.make("llama")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(checkpoint)
    loaded = load_model(checkpoint, runtime())
    assert len(loaded.tokenizer) > loaded.model.config.vocab_size
    prompts = [prompt("a", "bake a cake"), prompt("b", "what is the best way to bake a cake?")]
    shorter, _ = PlainEngine(loaded, batch_size=2).generate_batch(prompts, 4)
    assert [shorter] == PlainEngine(loaded, batch_size=1).generate_batch(prompts[:1], 4)


def change_tokenizer(folder: Path, **special: str | None) -> None:
    tokenizer = tokenizers.make("llama")
    for name, token in special.items():
        if token is None:
            setattr(tokenizer, name, None)
        else:
            tokenizer.add_special_tokens({name: token})
    tokenizer.save_pretrained(folder)


def alone_and_together(loaded: LoadedModel) -> None:
    """What stands beside a prompt, and the padding that it makes needed, changes nothing."""
    prompts = [prompt("a", "bake a cake"), prompt("b", "what is the best way to bake a cake?")]
    shorter, _ = PlainEngine(loaded, batch_size=2).generate_batch(prompts, 4)
    assert [shorter] == PlainEngine(loaded, batch_size=1).generate_batch(prompts[:1], 4)


def test_an_end_token_beyond_the_embeddings_is_no_padding(checkpoint: Path) -> None:
    change_tokenizer(checkpoint, eos_token="<end>", pad_token=None)
    alone_and_together(load_model(checkpoint, runtime()))


def test_a_tokenizer_without_padding_and_end_pads_with_another_special_token(checkpoint: Path) -> None:
    change_tokenizer(checkpoint, eos_token=None, pad_token=None)
    loaded = load_model(checkpoint, runtime())
    assert loaded.tokenizer.pad_token in tokenizers.make("llama").all_special_tokens
    alone_and_together(loaded)


def test_a_tokenizer_without_its_config_pads(checkpoint: Path) -> None:
    (checkpoint / "tokenizer_config.json").unlink()
    alone_and_together(load_model(checkpoint, runtime()))


@pytest.mark.parametrize(("end", "found"), [(None, "there is none"), (10_000, r"\[10000\] lie beyond its 872")])
def test_a_model_whose_answers_cannot_end_is_refused(checkpoint: Path, end: int | None, found: str) -> None:
    change_tokenizer(checkpoint, eos_token=None)
    (checkpoint / "chat_template.jinja").write_text("{{ messages[0].content }}")  # which marks no end either
    for file in (checkpoint / "config.json", checkpoint / "generation_config.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": end}))
    with pytest.raises(DapaError, match=rf"no end token that the model can say \({found}"):
        load_model(checkpoint, runtime())


def test_a_token_without_an_embedding_is_named(checkpoint: Path) -> None:
    tokenizer = tokenizers.make("llama")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    tokenizer.chat_template = f"<|user|>{tokenizer.chat_template}"
    tokenizer.save_pretrained(checkpoint)
    engine = PlainEngine(load_model(checkpoint, runtime()), batch_size=2)
    with pytest.raises(
        DapaError, match=r"the token '<\|user\|>' \(872\), and the model embeddings for 872 tokens only"
    ):
        engine.generate_batch([prompt("a", "bake a cake")], 4)


def test_a_checkpoint_without_a_tokenizer_is_told_so_whosever_template_is_used(
    checkpoint: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(checkpoint, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    for template in (None, checkpoint):
        with pytest.raises(DapaError, match=r"bare: no tokenizer there; copy tokenizer\.json"):
            load_model(bare, runtime(), template)


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_logits_that_overflow_are_an_error_and_no_answer(checkpoint: Path, engine: str) -> None:
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = 3e4 * tensors["lm_head.weight"].sign()
    save_file(tensors, file, {"format": "pt"})
    for dtype in ("float32", "bfloat16"):
        asked = runtime(dtype=dtype, engine=engine)
        make_engine(load_model(checkpoint, asked), asked).generate_batch([prompt("a", "bake a cake")], 4)
    asked = runtime(dtype="float16", engine=engine)
    broken = make_engine(load_model(checkpoint, asked), asked)
    with pytest.raises(
        DapaError, match="computes NaN or infinite logits: float16 is too small for them; bfloat16 and float32"
    ):
        broken.generate_batch([prompt("a", "bake a cake")], 4)


def test_a_tensor_that_is_left_over_is_named(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    save_file({**load_file(file), "score.weight": torch.ones(2, 16)}, file, {"format": "pt"})
    with pytest.raises(DapaError, match=r"holds 1 tensors that have no place in the model, such as score\.weight"):
        load_model(checkpoint, runtime())


def test_a_missing_chat_template_is_said_of_its_checkpoint_and_of_a_student_that_it_can_do_without(
    checkpoint: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(checkpoint, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    assert load_model(bare, runtime(), checkpoint).tokenizer.chat_template
    expected = "bare: the tokenizer has no chat template; only a student can do without, by pair.chat_template=teacher"
    for folder, template in ((bare, None), (checkpoint, bare)):
        with pytest.raises(DapaError, match=expected):
            load_model(folder, runtime(), template)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_an_unreadable_tokenizer_is_one_error_also_where_only_its_template_is_used(
    checkpoint: Path, tmp_path: Path, content: str
) -> None:
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    (broken / "tokenizer.json").write_text(content)
    for folder, template in ((broken, None), (checkpoint, broken)):
        with pytest.raises(DapaError, match="broken: the tokenizer cannot be loaded"):
            load_model(folder, runtime(), template)


def test_a_truncated_checkpoint_is_one_error(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(DapaError, match="cannot be loaded"):
        load_model(checkpoint, runtime())


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_one_error(checkpoint: Path, device: str) -> None:
    with pytest.raises(DapaError, match=f"runtime.device={device}: cannot be used"):
        load_model(checkpoint, runtime(device=device))


def test_a_device_without_the_memory_is_told_from_one_that_is_not_there(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(PreTrainedModel, "to", full)  # no GPU here to fill
    with pytest.raises(DapaError, match=r"runtime\.device=cuda: its memory does not suffice .* 2\.00 GiB"):
        load_model(checkpoint, runtime(device="cuda"))
