"""The shape of a model: from its config.json if that is on this machine, else from a table that this package ships."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dapa_exp.base.files import read_object
from dapa_exp.config.models import Model
from dapa_exp.models.source import source_of
from dapa_exp.zoo.recipe import LONGEST, RECIPES, VOCABULARY, Recipe
from dapa_exp.zoo.shapes import shapes

DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_TIED_UNLESS_SAID = ("gemma", "gemma2", "gemma3_text")
_NORMS_A_LAYER = {"gemma2": 4, "gemma3_text": 4}


@dataclass(frozen=True)
class Shape:
    """The dimensions that decide a model's size, under their names in config.json."""

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    dtype: str
    """The dtype of the checkpoint's tensors."""
    max_position_embeddings: int
    num_experts: int = 0
    moe_intermediate_size: int = 0
    assumed: bool = False
    """True if this is the shape of the model's base, because its own was not looked up."""

    @property
    def query_size(self) -> int:
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        return self.num_key_value_heads * self.head_dim

    @property
    def parameters(self) -> int:
        """The number of parameters: embeddings, layers, last norm, and the head if it is not tied."""
        embeddings = self.vocab_size * self.hidden_size
        norms = _NORMS_A_LAYER.get(self.model_type, 2) * self.hidden_size
        layer = self._attention() + self._mlp() + norms
        head = 0 if self.tie_word_embeddings else embeddings
        return embeddings + self.num_hidden_layers * layer + self.hidden_size + head

    @property
    def checkpoint_bytes(self) -> int:
        return self.parameters * DTYPE_BYTES[self.dtype]

    @property
    def largest_tensor(self) -> int:
        """The number of entries of the largest tensor: the embeddings, or a projection if the vocabulary is small."""
        return self.hidden_size * max(self.vocab_size, self.intermediate_size, self.query_size)

    def _attention(self) -> int:
        extra = {
            "qwen2": self.query_size + 2 * self.key_value_size,  # biases of query, key and value
            "qwen3": 2 * self.head_dim,  # norms of query and key, for single heads
            "qwen3_moe": 2 * self.head_dim,
            "gemma3_text": 2 * self.head_dim,
            "olmo2": self.query_size + self.key_value_size,  # the same over all heads
        }
        return 2 * self.hidden_size * (self.query_size + self.key_value_size) + extra.get(self.model_type, 0)

    def _mlp(self) -> int:
        if not self.num_experts:
            return 3 * self.hidden_size * self.intermediate_size
        expert = 3 * self.hidden_size * (self.moe_intermediate_size or self.intermediate_size)
        return self.num_experts * (expert + self.hidden_size)  # a row of the router for each


def shape_of(model: Model) -> Shape | None:
    """A model's shape, without using the network; None if unknown."""
    config = config_here(model)
    return shape_from(config) if config else facts().get(model.id) or _enlarged(model) or _miniature(model)


def _enlarged(model: Model) -> Shape | None:
    """The shape of a miniature that has yet to be enlarged, where it is a known one or differs from one."""
    name, *changed = (model.zoo_name or "").partition("@")[2].split(",")
    known = shapes().get(name)
    values = dict(word.split("=") for word in changed if re.fullmatch(r"\w+=\d+", word))
    numbers = {key: int(value) for key, value in values.items()}
    return shape_from({**known, "dtype": "bfloat16", **numbers}) if known else None


def _miniature(model: Model) -> Shape | None:
    """About the shape of a miniature that has yet to be trained: its vocabulary may turn out smaller."""
    recipe = RECIPES.get(model.zoo_name or "")
    if not isinstance(recipe, Recipe):
        return None
    size = recipe.size
    return Shape(
        model_type=recipe.family,
        num_hidden_layers=size.layers,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        head_dim=size.hidden // size.heads,
        vocab_size=VOCABULARY,
        tie_word_embeddings=recipe.family in _TIED_UNLESS_SAID,
        dtype="float32",
        max_position_embeddings=LONGEST,
        assumed=True,
    )


def shape_from(config: Mapping[str, Any]) -> Shape | None:
    """The shape in the content of a config.json; None if it is not that of a decoder-only language model."""
    try:
        known = {field.name: config[field.name] for field in fields(Shape) if field.name in config}
        heads = config["num_attention_heads"]
        known["num_key_value_heads"] = config.get("num_key_value_heads") or heads
        known["head_dim"] = config.get("head_dim") or config["hidden_size"] // heads
        known["num_experts"] = config.get("num_local_experts") or config.get("num_experts") or 0
        known.setdefault("tie_word_embeddings", config["model_type"] in _TIED_UNLESS_SAID)
        known["dtype"] = config.get("dtype") or config.get("torch_dtype") or "float32"
        return Shape(**known) if known["dtype"] in DTYPE_BYTES else None
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def config_here(model: Model) -> dict[str, Any] | None:
    """The content of a model's config.json, from the zoo, a folder or the hub's cache; None if it is not there."""
    return read_object(file) if (file := source_of(model).file("config.json")) else None


@cache
def facts() -> dict[str, Shape]:
    """The shapes of the models in `conf/pair`, by hub id."""
    stored = yaml.safe_load((Path(__file__).parent / "facts.yaml").read_text(encoding="utf-8"))
    return {name: _shape(entry) for name, entry in stored["models"].items()}


def _shape(entry: Mapping[str, Any]) -> Shape:
    changed = {key: value for key, value in entry.items() if key != "shape"}
    return Shape(**{**shapes()[entry["shape"]], **changed})
