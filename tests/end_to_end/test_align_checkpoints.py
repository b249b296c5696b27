"""`dapa align` on checkpoints as people have them: each works, or ends in one sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapa_exp.cli.dispatch import main
from dapa_exp.zoo import store
from tests.commands import Said
from tests.gguf_file import Vocabulary, write_gguf

FEW = (
    *("dataset=miniature", "dataset.search.rows=[0,8]", "dataset.report.rows=[96,104]", "dataset.harmless.rows=[0,8]"),
    *("dataset.text=null", "dataset.questions=null", "evaluate.max_new_tokens=16", "evaluate.random_repeats=0"),
    *("runtime.threads=1", "search.max_new_tokens=16"),
)
TEACHER = "zoo:llama-small-chat"


@pytest.fixture
def align(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(student: Path | str, *words: str) -> Said:
        capfd.readouterr()
        teacher = () if "--teacher" in words else ("--teacher", TEACHER)
        try:
            code = main(["align", str(student), *teacher, "--out", str(tmp_path / "out"), *FEW, *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *capfd.readouterr())

    return run


def student(folder: Path) -> Path:
    shutil.copytree(store.path("llama-small-style"), folder)
    (folder / store.MANIFEST).unlink()
    return folder


def sharded_bfloat16(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder, max_shard_size="200KB")
    (folder / "model.safetensors").unlink()


def resized(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(model.config.vocab_size + 8)
    model.save_pretrained(folder)


def without_template(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def downloaded(folder: Path) -> None:
    """Shards of bfloat16, a vocabulary that was added to, and no chat template."""
    resized(folder)
    sharded_bfloat16(folder)
    without_template(folder)


def adapter(folder: Path) -> None:
    base = folder.with_name("base")
    folder.rename(base)
    settings = peft.LoraConfig(target_modules=["q_proj"], r=2, task_type="CAUSAL_LM")
    model: Any = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(tensor, std=1e-4)
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))


def as_gguf(folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    parts = json.loads((folder / "tokenizer.json").read_text())["model"]
    words = Vocabulary(
        tokens=tokenizer.convert_ids_to_tokens(range(model.config.vocab_size)),
        merges=[" ".join(merge) for merge in parts["merges"]],
        begin=tokenizer.bos_token_id,
        end=tokenizer.eos_token_id,
        template=tokenizer.chat_template,
        special=frozenset(tokenizer.added_tokens_decoder),
    )
    shutil.rmtree(folder)
    write_gguf(folder / "model.gguf", model, words, "nothing")


def thinking(folder: Path) -> None:
    """Its template can switch thoughts off."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    tokenizer.save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("change", [downloaded, adapter, as_gguf, thinking])
def test_it_works(change: Callable[[Path], None], tmp_path: Path, align: Callable[..., Said]) -> None:
    change(student(tmp_path / "mine"))
    said = align(tmp_path / "mine", "--time", "1s")
    assert said.code == 0, said.out + said.err
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    ids: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / "model").apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**ids, max_new_tokens=2, do_sample=False).shape[1] > ids["input_ids"].shape[1]


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def missing_shard(folder: Path) -> None:
    sharded_bfloat16(folder)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def strange(folder: Path) -> None:
    _change(folder, model_type="gpt2")


def quantised(folder: Path) -> None:
    _change(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def shallower(folder: Path) -> None:
    _change(folder, num_hidden_layers=7)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def only_weights(folder: Path) -> None:
    (folder / "config.json").unlink()


def _change(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (truncated, "model.safetensors"),
        (missing_shard, "shards are missing: model-00002-of-"),
        (strange, "model_type 'gpt2' is not known"),
        (quantised, "quantised (gptq); only floating-point weights can be transplanted"),
        (shallower, "num_hidden_layers: teacher 8, student 7"),
        (pickled, "pair.student.allow_pickle=true"),
        (no_tokenizer, "no tokenizer there; copy tokenizer.json"),
        (only_weights, "no config.json there, so no checkpoint"),
    ],
)
def test_it_ends_in_a_sentence(
    change: Callable[[Path], None], sentence: str, tmp_path: Path, align: Callable[..., Said]
) -> None:
    change(student(tmp_path / "mine"))
    said = align(tmp_path / "mine")
    assert sentence in said.complaint
    assert len(said.complaint.splitlines()) <= 3, said.complaint
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_is_no_safer_is_refused(tmp_path: Path, align: Callable[..., Said]) -> None:
    said = align(store.path("llama-small-chat"), "--teacher", "zoo:llama-small-style")
    assert "the teacher is not safer than the student" in said.complaint


@pytest.mark.slow
def test_a_method_that_needs_a_base_finds_it_in_the_teachers_card(tmp_path: Path, align: Callable[..., Said]) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(store.path("llama-small-chat"), teacher)
    (teacher / "README.md").write_text("---\nbase_model: zoo:llama-small-base\n---\nA teacher.\n")
    words = ("--teacher", str(teacher), "--time", "1s", "transplant=task_vector", "transplant.gamma=1.0")
    said = align("zoo:llama-small-style", *words)
    assert f"base     zoo:llama-small-base: the card of {teacher} says so" in said.out
    (config, *_) = (tmp_path / "out" / "runs").glob("*/config.yaml")
    assert yaml.safe_load(config.read_text())["transplant"]["base"]["id"] == "zoo:llama-small-base"


def test_without_a_base_in_the_card_it_says_how_to_name_one(align: Callable[..., Said]) -> None:
    said = align("zoo:llama-small-style", "transplant=safe_merge")
    assert f"no card of {TEACHER} names one model that it was tuned from; transplant.base=ID does" in said.out
    assert "base is null" in said.complaint
