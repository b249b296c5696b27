"""Real checkpoints of a few thousand parameters, made on the spot, untrained."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.config.models import Model
from dapa_exp.models.load import LoadedModel
from dapa_exp.zoo import tokenizer as tokenizers

CONFIGS: dict[str, type[PretrainedConfig]] = {"llama": LlamaConfig, "mistral": MistralConfig, "gemma": GemmaConfig}
"""The zoo's architectures."""
EVERY_CONFIG: dict[str, type[PretrainedConfig]] = {
    **CONFIGS,
    "gemma2": Gemma2Config,
    "gemma3_text": Gemma3TextConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "olmo2": Olmo2Config,
    "phi3": Phi3Config,
    "mixtral": MixtralConfig,
    "qwen3_moe": Qwen3MoeConfig,
}
"""All that dapa_exp.models.architecture has a row for."""
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
MORE = {
    "phi3": {"pad_token_id": 0},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 12, "num_experts_per_tok": 2},
}


def tiny_model(family: str, seed: int, **changed: int) -> PreTrainedModel:
    """An untrained model of a family; the same seed gives the same weights."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {**SHAPE, **MORE.get(family, {}), **changed}
    model: PreTrainedModel = AutoModelForCausalLM.from_config(EVERY_CONFIG[family](**settings))
    return model.float()


def tiny_checkpoint(folder: Path, family: str, seed: int, **changed: int) -> Path:
    """The same, saved as an ordinary checkpoint without a tokenizer."""
    tiny_model(family, seed, **changed).save_pretrained(folder)
    return folder


def tiny_loaded(family: str, seed: int) -> LoadedModel:
    """The same with a tokenizer and chat template of the zoo: what an engine takes, speaking gibberish."""
    tokenizer = copy.deepcopy(_tokenizer(family if family in CONFIGS else "llama"))  # a test may change its template
    model = tiny_model(family, seed, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    return LoadedModel(model.eval(), tokenizer)


@cache
def _tokenizer(family: str) -> PreTrainedTokenizerBase:
    return tokenizers.make(family)


def model_at(path: Path) -> Model:
    return Model(id=str(path), revision=None)
