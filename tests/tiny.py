"""Real checkpoints of a few thousand parameters, made on the spot, untrained."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from transformers import (
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto import AutoModelForCausalLM

from dapa_exp.models.load import LoadedModel
from dapa_exp.zoo import tokenizer as tokenizers

CONFIGS: dict[str, type[PretrainedConfig]] = {"llama": LlamaConfig, "mistral": MistralConfig, "gemma": GemmaConfig}
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


def tiny_model(family: str, seed: int, **changed: int) -> PreTrainedModel:
    """An untrained model of a family; the same seed gives the same weights."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[family](**{**SHAPE, **changed}))
    return model.float()


def tiny_checkpoint(folder: Path, family: str, seed: int, **changed: int) -> Path:
    """The same, saved as an ordinary checkpoint without a tokenizer."""
    tiny_model(family, seed, **changed).save_pretrained(folder)
    return folder


def tiny_loaded(family: str, seed: int) -> LoadedModel:
    """The same with the zoo's tokenizer and chat template: what an engine takes, speaking gibberish."""
    tokenizer = _tokenizer(family)
    model = tiny_model(family, seed, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    return LoadedModel(model.eval(), tokenizer)


@cache
def _tokenizer(family: str) -> PreTrainedTokenizerBase:
    return tokenizers.make(family)
