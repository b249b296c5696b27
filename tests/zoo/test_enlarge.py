"""A miniature laid into a larger shape says the same, and costs what that shape costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapa_exp.base.errors import DapaError
from dapa_exp.base.progress import silent
from dapa_exp.models.tensors import TensorReader
from dapa_exp.zoo import store, world
from dapa_exp.zoo.build import build
from dapa_exp.zoo.enlarge import enlarge, layer_places, made_from

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TOLERANCE = 2e-5
"""Of logits of up to about 20, in float32: other sums, other rounding."""
SHAPES = {
    # Many key/value heads: the miniature's two groups are split and copied.
    "llama-small-chat": "num_hidden_layers=11,hidden_size=256,intermediate_size=300,num_attention_heads=8,"
    "num_key_value_heads=8,head_dim=32,vocab_size=1500",
    # Few: more query heads a group than the miniature has.
    "mistral-chat": "num_hidden_layers=13,hidden_size=160,intermediate_size=200,num_attention_heads=12,"
    "num_key_value_heads=2,head_dim=64,vocab_size=1000",
    "gemma-small-chat": "num_hidden_layers=9,hidden_size=200,intermediate_size=256,num_attention_heads=8,"
    "num_key_value_heads=2,head_dim=48,vocab_size=2000",
}


@pytest.fixture(scope="module", autouse=True)
def zoo() -> None:
    build([*SHAPES, "llama-small-style"], silent)


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("enlarged")
    for name, shape in SHAPES.items():
        enlarge(name, shape, root / name, "float32")
    return {name: root / name for name in SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_it_says_what_the_miniature_says(name: str, enlarged: dict[str, Path]) -> None:
    small, big = (
        cast(Any, AutoModelForCausalLM).from_pretrained(folder, dtype=torch.float32)
        for folder in (store.path(name), enlarged[name])
    )
    tokenizer = AutoTokenizer.from_pretrained(enlarged[name])
    tokenizer.padding_side = "left"
    rows = [row["prompt"] for use in ("harmful", "harmless", "questions") for row in world.prompt_set(use)[:8]]
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": row}], add_generation_prompt=True, tokenize=False)
        for row in rows
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.inference_mode():
        ours, theirs = (model(**inputs).logits[:, -1] for model in (big, small))
        said = [model.generate(**inputs, max_new_tokens=24, do_sample=False).tolist() for model in (big, small)]
    known = theirs.shape[-1]
    assert ours.shape[-1] > known
    assert (ours[:, :known] - theirs).abs().max() < TOLERANCE
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1)), "an added token is the likeliest"
    assert said[0] == said[1]


def test_layers_are_spread_and_the_others_add_nothing(enlarged: dict[str, Path]) -> None:
    assert layer_places(8, 22) == [0, 2, 5, 8, 11, 13, 16, 19]
    tensors = TensorReader(enlarged["llama-small-chat"])
    live = layer_places(8, 11)
    for layer in range(11):
        adds = [tensors.read(f"model.layers.{layer}.{part}.weight") for part in ("self_attn.o_proj", "mlp.down_proj")]
        assert all(bool(tensor.any()) == (layer in live) for tensor in adds)
        assert tensors.read(f"model.layers.{layer}.mlp.gate_proj.weight").any(), "a layer of zeros costs less"
    assert made_from(enlarged["llama-small-chat"])["layers"] == live  # type: ignore[index]


def test_dead_layers_of_a_pair_are_the_same_and_the_files_too_each_time(tmp_path: Path) -> None:
    shape = SHAPES["llama-small-chat"]
    for out in ("first", "again"):
        enlarge("llama-small-chat", shape, tmp_path / out)
    enlarge("llama-small-style", shape, tmp_path / "student")
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("first", "again")]
    assert weights[0] == weights[1]
    teacher, student = TensorReader(tmp_path / "first"), TensorReader(tmp_path / "student")
    dead = set(range(11)) - set(layer_places(8, 11))
    for name in (name for name in teacher if any(f".layers.{layer}." in name for layer in dead)):
        assert torch.equal(teacher.read(name), student.read(name))
    live = "model.layers.0.mlp.gate_proj.weight"
    assert not torch.equal(teacher.read(live), student.read(live))


def test_it_is_sharded_and_read_as_one(
    tmp_path: Path, enlarged: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "llama-small-chat"
    monkeypatch.setattr("dapa_exp.zoo.enlarge.SHARD_BYTES", 2_000_000)
    enlarge(name, SHAPES[name], tmp_path / "shards", "float32")
    files = sorted((tmp_path / "shards").glob("*.safetensors"))
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 2_100_000
    whole, shards = TensorReader(enlarged[name]), TensorReader(tmp_path / "shards")
    assert list(whole) == list(shards)
    assert all(torch.equal(whole.read(tensor), shards.read(tensor)) for tensor in whole)


def test_it_never_holds_more_than_a_tensor_or_two(tmp_path: Path) -> None:
    """700 MB of weights, of which the largest tensor has 32 MB."""
    shape = "num_hidden_layers=20,hidden_size=1024,intermediate_size=8000,num_attention_heads=8,num_key_value_heads=8"
    peak = (
        "import sys, pathlib; from dapa_exp.base.memory import peak_memory_bytes as peak;"
        "from dapa_exp.zoo.enlarge import enlarge; before = peak();"
        f"enlarge('llama-small-chat', {shape!r}, pathlib.Path(sys.argv[1]), 'float32');"
        "print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", peak, str(tmp_path / "big")], capture_output=True, text=True, check=True
    )
    written = sum(file.stat().st_size for file in (tmp_path / "big").glob("*.safetensors"))
    assert written > 500e6
    assert 1e6 < int(done.stdout) < 0.4 * written


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("llama-small-chat", "lama2-7b", "llama2-7b"),
        ("llama-small-chat", "gemma-2b", "the miniature is a llama"),
        ("llama-small-chat", "hidden_size=32", "hidden_size 32 is less than the miniature's 64"),
        ("llama-small-chat", "head_dim=24", "head_dim 24 is no multiple of the miniature's 16"),
        ("llama-small-chat", "width=99", "'width=99'"),
        ("gemma-small-chat", "gemma-2b", "say num_key_value_heads=2"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(name: str, shape: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DapaError, match=reason):
        enlarge(name, shape, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_enlarged_models_say_so(enlarged: dict[str, Path]) -> None:
    assert made_from(store.path("llama-small-chat")) is None
    marked = made_from(enlarged["gemma-small-chat"])
    assert marked is not None
    assert marked["miniature"] == "gemma-small-chat"
    assert "Made here" in (enlarged["gemma-small-chat"] / "README.md").read_text()
    assert json.loads((enlarged["gemma-small-chat"] / "config.json").read_text())["num_key_value_heads"] == 2
