"""The facts are those of the models that transformers would make of them, and every model of ours has some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.base.progress import silent
from dapa_exp.cli.composer import conf_dir
from dapa_exp.config.models import Model
from dapa_exp.preflight.facts import Shape, config_here, facts, shape_from, shape_of
from dapa_exp.zoo.build import build
from tests.tiny import EVERY_CONFIG, MORE, SHAPE, tiny_checkpoint, tiny_model

DISTINCT = {(shape.model_type, shape.parameters): name for name, shape in facts().items()}
"""One model of each shape."""


def parameters(model: PreTrainedModel) -> int:
    return sum(tensor.numel() for tensor in {id(tensor): tensor for tensor in model.parameters()}.values())


@pytest.mark.parametrize("name", DISTINCT.values())
def test_the_size_of_a_real_model_is_transformers(name: str) -> None:
    shape = facts()[name]
    keys = ("dtype", "assumed", "num_experts", "moe_intermediate_size", "model_type")
    settings = {key: value for key, value in vars(shape).items() if key not in keys}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[shape.model_type](**settings))
    assert shape.parameters == parameters(model)


def test_the_sizes_are_the_published_ones() -> None:
    billions = {name: round(shape.parameters / 1e9, 2) for name, shape in facts().items()}
    assert billions["meta-llama/Llama-2-7b-hf"] == 6.74
    assert billions["meta-llama/Llama-2-13b-hf"] == 13.02
    assert billions["mistralai/Mistral-7B-v0.1"] == 7.24
    assert billions["google/gemma-2b"] == 2.51
    assert billions["google/gemma-7b"] == 8.54
    assert facts()["google/gemma-7b"].checkpoint_bytes == 2 * facts()["google/gemma-7b"].parameters


@pytest.mark.parametrize("family", EVERY_CONFIG)
def test_the_size_of_every_architecture_is_transformers(family: str) -> None:
    settings: dict[str, Any] = {**SHAPE, **MORE.get(family, {})}
    config = EVERY_CONFIG[family](**settings).to_dict()
    shape = shape_from(config)
    assert shape is not None
    model = tiny_model(family, 1)
    assert shape.parameters == parameters(model)
    assert shape.largest_tensor <= max(tensor.numel() for tensor in model.parameters())


def test_every_model_of_our_pairs_has_facts() -> None:
    families = {file.stem: file for file in (conf_dir() / "family").glob("[!_]*.yaml")}
    named = set()
    for file in (conf_dir() / "pair").glob("*-*.yaml"):
        if file.stem.startswith(("mini-", "enlarged-", "shadow-", "joint-", "smollm2")):
            continue
        pair = yaml.safe_load(file.read_text())
        (family_name,) = (entry["/family@_global_.family"] for entry in pair["defaults"] if isinstance(entry, dict))
        family = yaml.safe_load(families[family_name].read_text())
        for name in (family["teacher"]["id"], pair["student"]["id"]):
            named.add(name)
            assert facts()[name].model_type == family["model_type"]
            assert facts()[name].num_hidden_layers == family["num_layers"]
    assert named == {name for name in facts() if not name.startswith("zoo:")}


@pytest.mark.parametrize("name", ["llama-small-style", "gemma-small-base", "mistral-base"])
def test_the_size_of_a_miniature_is_known_before_it_is_trained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build([name], silent)
    model = Model(id=f"zoo:{name}", revision=None)
    monkeypatch.setenv("DAPA_CACHE", "/nowhere")
    before = shape_of(model)
    monkeypatch.undo()
    made = shape_of(model)
    assert before is not None
    assert made is not None
    assert vars(made) == {**vars(before), "vocab_size": made.vocab_size, "assumed": False}
    assert made.vocab_size <= before.vocab_size


def test_a_config_on_this_machine_goes_before_the_facts(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", "gemma", 1)
    model = Model(id=str(folder), revision=None)
    shape = shape_of(model)
    assert shape == Shape(
        model_type="gemma",
        num_hidden_layers=3,
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=64,
        tie_word_embeddings=True,
        dtype="float32",
        max_position_embeddings=8192,
    )
    (folder / "config.json").write_text("{")
    assert config_here(model) is None
    assert shape_of(model) is None


def test_what_an_old_config_json_leaves_out_is_what_it_means() -> None:
    shape = shape_from(
        {
            "model_type": "llama",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_attention_heads": 32,
            "vocab_size": 32000,
            "torch_dtype": "float16",
            "max_position_embeddings": 4096,
        }
    )
    assert shape == facts()["meta-llama/Llama-2-7b-hf"]
