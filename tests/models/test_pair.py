"""Do two checkpoints fit? Told from configs and headers, all misfits at once, before a weight is read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dapa_exp.base.errors import DapaError
from dapa_exp.cli.compose import jobs
from dapa_exp.config.schema import Config
from dapa_exp.models.checkpoint import complete_config, read_config
from dapa_exp.models.pair import Pair, open_pair
from dapa_exp.zoo import tokenizer as tokenizers
from tests.tiny import CONFIGS, tiny_checkpoint


def config(teacher: Path, student: Path, family: str = "llama", granularity: str = "mlp") -> Config:
    words = [f"pair.student.id={student}", f"family.teacher.id={teacher}", f"family.model_type={family}"]
    return jobs([*words, f"granularity={granularity}"])[0].config


def opened(tmp_path: Path, family: str = "llama", granularity: str = "mlp", **student: int) -> Pair:
    a = tiny_checkpoint(tmp_path / "teacher", family, 1)
    b = tiny_checkpoint(tmp_path / "student", family, 2, **student)
    return open_pair(config(a, b, family, granularity))


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    ("granularity", "count", "first", "tensors"),
    [
        ("layer", 3, "layers.0", 9),
        ("mlp", 3, "layers.0.mlp", 3),
        ("attention", 3, "layers.0.attention", 4),
        ("gate_proj", 3, "layers.0.mlp.gate_proj", 1),
        ("projection", 9, "layers.0.mlp.gate_proj", 1),
    ],
)
def test_units_of_every_family(
    tmp_path: Path, family: str, granularity: str, count: int, first: str, tensors: int
) -> None:
    pair = opened(tmp_path, family, granularity)
    assert len(pair.units) == count
    assert next(iter(pair.units)) == first
    assert all(len(names) == tensors for names in pair.units.values())


def test_whole_layers_hold_every_tensor_but_embeddings_head_and_last_norm(tmp_path: Path) -> None:
    pair = opened(tmp_path, "llama", "layer")
    held = {part.tensor for parts in pair.units.values() for part in parts}
    assert set(pair.student) - held == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


def test_every_misfit_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DapaError) as caught:
        opened(tmp_path, num_hidden_layers=4, intermediate_size=32)
    message = str(caught.value)
    assert "num_hidden_layers: teacher 3, student 4" in message
    assert "intermediate_size: teacher 24, student 32" in message


def test_misfits_are_told_before_any_weight_is_read(tmp_path: Path) -> None:
    a = tiny_checkpoint(tmp_path / "teacher", "llama", 1)
    b = tiny_checkpoint(tmp_path / "student", "mistral", 2)
    for weights in (*a.glob("*.safetensors"), *b.glob("*.safetensors")):
        weights.unlink()
    with pytest.raises(DapaError, match="model_type: teacher llama, student mistral"):
        open_pair(config(a, b))


def test_another_vocabulary_is_named_and_allowed(tmp_path: Path) -> None:
    pair = opened(tmp_path, vocab_size=80)
    assert "vocab_size: teacher 64, student 80" in pair.differences


@pytest.mark.parametrize("name", ["./nowhere", "./nowhere.gguf"])
def test_a_folder_that_is_not_there_is_named_with_its_key(name: str) -> None:
    kind = "file" if name.endswith("gguf") else "folder"
    with pytest.raises(DapaError, match=rf"pair\.student\.id: no such {kind} {name}"):
        jobs([f"pair.student.id={name}"])
    with pytest.raises(DapaError, match=rf"judge\.model\.id: no such {kind} {name}"):
        jobs(["judge=classifier", f"judge.model.id={name}"])


@pytest.mark.parametrize("name", [".", "zoo:llama-small-base"])
def test_a_revision_of_a_model_that_has_none_is_not_passed_over(name: str) -> None:
    with pytest.raises(DapaError, match=r"pair\.student\.revision: is v2; only models of the hub have revisions"):
        jobs([f"pair.student.id={name if ':' in name else Path(name).absolute()}", "pair.student.revision=v2"])


def test_dtype_epsilon_and_tying_are_named(tmp_path: Path) -> None:
    a = tiny_checkpoint(tmp_path / "teacher", "llama", 1)
    b = tiny_checkpoint(tmp_path / "student", "llama", 1, tie_word_embeddings=True)
    edit_config(b, dtype="bfloat16", rms_norm_eps=1e-5)
    assert open_pair(config(a, b)).differences == (
        "dtype: teacher float32, student bfloat16",
        "rms_norm_eps: teacher 1e-06, student 1e-05",
        "tie_word_embeddings: teacher False, student True",
    )


@pytest.mark.parametrize("family", ["llama", "phi3", "mixtral"])
def test_a_student_that_is_no_relative_of_its_teacher_is_told(tmp_path: Path, family: str) -> None:
    a, b = tiny_checkpoint(tmp_path / "teacher", family, 1), tiny_checkpoint(tmp_path / "student", family, 2)
    (stranger,) = open_pair(config(a, b, family, "layer")).differences
    assert re.match(r"weights: cosine -?0\.\d\d on average of 8 matrices; .* do not stem from one model", stranger)
    file = b / "model.safetensors"
    shutil.copy(a / "model.safetensors", file)
    tuned = {name: tensor + 0.1 * tensor.std() * torch.randn(tensor.shape) for name, tensor in load_file(file).items()}
    save_file(tuned, file, {"format": "pt"})
    assert open_pair(config(a, b, family, "layer")).differences == ()


def test_tokens_that_only_one_tokenizer_has_are_counted(tmp_path: Path) -> None:
    for name in ("teacher", "student"):
        folder, tokenizer = tmp_path / name, tokenizers.make("llama")
        if name == "student":
            tokenizer.add_tokens(["<added>"])
        tiny_checkpoint(folder, "llama", 1)
        tokenizer.save_pretrained(folder)
    pair = open_pair(config(tmp_path / "teacher", tmp_path / "student"))
    assert pair.differences == ("tokenizer: 1 entries, of 872 and 873, are in one of the two only",)


def test_a_tokenizer_that_no_longer_knows_the_marks_of_the_template_is_told(tmp_path: Path) -> None:
    for name in ("teacher", "student"):
        tiny_checkpoint(tmp_path / name, "llama", 1)
        tokenizers.make("llama").save_pretrained(tmp_path / name)
    file = tmp_path / "student" / "tokenizer.json"
    content = json.loads(file.read_text())
    for token in content["added_tokens"]:
        content["model"]["vocab"].setdefault(token["content"], token["id"])
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[INST]"]
    file.write_text(json.dumps(content))
    (told,) = open_pair(config(tmp_path / "teacher", tmp_path / "student")).differences
    assert "begins for the teacher ['</s>', '[INST]', '[/INST]', 'how'" in told
    assert "and for the student ['</s>', '[', 'in', 'st', ']', '[/INST]'" in told


def test_values_that_a_config_leaves_out_are_filled_in(tmp_path: Path) -> None:
    a, b = tiny_checkpoint(tmp_path / "teacher", "llama", 1), tiny_checkpoint(tmp_path / "student", "llama", 1)
    edit_config(a, head_dim=None, hidden_act=None)
    assert open_pair(config(a, b)).differences == ()


@pytest.mark.parametrize("family", ["qwen2", "mixtral"])
def test_a_head_size_that_only_one_config_spells_out_is_the_one_that_follows(tmp_path: Path, family: str) -> None:
    a, b = tiny_checkpoint(tmp_path / "teacher", family, 1), tiny_checkpoint(tmp_path / "student", family, 1)
    edit_config(b, head_dim=None)
    assert open_pair(config(a, b, family)).differences == ()
    edit_config(a, head_dim=16)
    with pytest.raises(DapaError, match="head_dim: teacher 16, student 8"):
        open_pair(config(a, b, family))


@pytest.mark.parametrize(
    ("family", "read", "leftover"),
    [
        ("gemma", "hidden_act", "hidden_activation"),
        ("gemma2", "hidden_activation", "hidden_act"),
        ("gemma3_text", "hidden_activation", "hidden_act"),
    ],
)
def test_the_activation_that_the_model_reads_must_agree_and_no_other(
    tmp_path: Path, family: str, read: str, leftover: str
) -> None:
    a, b = tiny_checkpoint(tmp_path / "teacher", family, 1), tiny_checkpoint(tmp_path / "student", family, 2)
    edit_config(a, **{leftover: "relu"})
    open_pair(config(a, b, family))
    edit_config(b, **{read: "relu"})
    with pytest.raises(DapaError, match=f"{read}: teacher gelu_pytorch_tanh, student relu"):
        open_pair(config(a, b, family))


def test_a_quantised_checkpoint_is_refused(tmp_path: Path) -> None:
    a, b = tiny_checkpoint(tmp_path / "teacher", "llama", 1), tiny_checkpoint(tmp_path / "student", "llama", 2)
    edit_config(a, quantization_config={"quant_method": "gptq"})
    with pytest.raises(DapaError, match=r"teacher: quantised \(gptq\); only floating-point weights"):
        open_pair(config(a, b))


def test_a_config_that_says_null_of_its_quantisation_is_not_quantised(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path, "llama", 1)
    stored = json.loads((folder / "config.json").read_text())
    assert complete_config({**stored, "quantization_config": None}, "a model")["hidden_size"] == 16


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", r"config\.json: Expecting"),
        ("[]", r"config\.json: holds no object"),
        ({"hidden_size": "abc"}, r"config\.json: .*'hidden_size' expected int, got str"),
        ({"num_attention_heads": 0}, r"config\.json: .*by zero"),
    ],
)
def test_a_damaged_config_is_one_error_that_names_it(
    tmp_path: Path, content: str | dict[str, object], problem: str
) -> None:
    folder = tiny_checkpoint(tmp_path, "llama", 1)
    if isinstance(content, str):
        (folder / "config.json").write_text(content)
    else:
        edit_config(folder, **content)
    with pytest.raises(DapaError, match=problem):
        read_config(folder)


def test_a_tensor_of_another_shape_than_the_config_says_is_named(tmp_path: Path) -> None:
    a, b = tiny_checkpoint(tmp_path / "teacher", "llama", 1), tiny_checkpoint(tmp_path / "student", "llama", 2)
    tiny_checkpoint(tmp_path / "other", "llama", 1, intermediate_size=32)
    (tmp_path / "other" / "model.safetensors").replace(a / "model.safetensors")
    with pytest.raises(DapaError, match=r"layers\.0\.mlp\.\w+\.weight: \[\d+, \d+\], but by config\.json \[\d+, \d+\]"):
        open_pair(config(a, b))


@pytest.mark.parametrize(("with_bias", "without"), [("teacher", "student"), ("student", "teacher")])
def test_a_tensor_that_one_of_them_lacks_is_named(tmp_path: Path, with_bias: str, without: str) -> None:
    tiny_checkpoint(tmp_path / with_bias, "llama", 1, mlp_bias=True)
    tiny_checkpoint(tmp_path / without, "llama", 2)
    with pytest.raises(DapaError, match=rf"layers\.2\.mlp\.up_proj\.bias: the {without} has no such tensor"):
        open_pair(config(tmp_path / "teacher", tmp_path / "student"))


def test_an_unknown_architecture_is_told_before_anything_else(tmp_path: Path) -> None:
    a, b = tiny_checkpoint(tmp_path / "teacher", "llama", 1), tiny_checkpoint(tmp_path / "student", "llama", 2)
    for folder in (a, b):
        edit_config(folder, model_type="mamba")
    with pytest.raises(DapaError, match=r"model_type 'mamba' is not known.*dapa_exp/models/architecture\.py"):
        open_pair(config(a, b))


def edit_config(folder: Path, **changed: object) -> None:
    """Set keys of a config.json; None leaves them out."""
    file = folder / "config.json"
    content = {**json.loads(file.read_text()), **changed}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
