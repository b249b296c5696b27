"""Reads GGUF files."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dapa_exp.base.packages import need_package


def read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GGUF file's model, dequantised to float32, and its tokenizer. Raises DapaError without the package gguf."""
    need_package("gguf", f"{file}: reading GGUF")
    dense = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=dense
    )
    return model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
