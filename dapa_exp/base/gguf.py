"""Reads GGUF files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dapa_exp.base.errors import DapaError
from dapa_exp.base.gguf_parts import refuse_part
from dapa_exp.base.packages import need_package
from dapa_exp.base.unplaced import refuse_unplaced


def read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a GGUF file, dequantised to float32, and its tokenizer.

    Raises DapaError if the package gguf is not installed, if the file is one part of several, if it scales its
    positions, or if its tensors are not exactly those of the model.
    """
    need_package("gguf", f"{file}: reading GGUF")
    from gguf import GGUFReader

    reader = GGUFReader(file)
    refuse_part(file.name, _field(reader, "split.count"))
    _refuse_scaling(file, reader)
    dense = GgufConfig(dequantize=True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=dense, output_loading_info=True
    )
    model, info = loaded
    refuse_unplaced(file.name, info["missing_keys"], info["unexpected_keys"])
    _refuse_left_over(file, reader, model)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    _set_special_tokens(tokenizer, reader)
    return model, tokenizer


def _set_special_tokens(tokenizer: PreTrainedTokenizerBase, reader: Any) -> None:
    """Give the tokenizer the special tokens that the file names. Some versions of transformers take others (5.17)."""
    for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        token = _field(reader, f"tokenizer.ggml.{key}_token_id")
        if token is not None and token != getattr(tokenizer, f"{name}_token_id"):
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(int(token)))


def _refuse_scaling(file: Path, reader: Any) -> None:
    """Raise DapaError if the file has RoPE scaling: transformers ignores it, and the model would answer differently."""
    kind = _field(reader, f"{_field(reader, 'general.architecture')}.rope.scaling.type")
    tables = [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_")]
    if tables or kind not in (None, "none"):
        found = ", ".join([*tables, *([] if kind in (None, "none") else [f"rope.scaling.type {kind}"])])
        raise DapaError(
            f"{file.name}: scales its positions ({found}), which cannot be read from GGUF; name its original"
        )


def _refuse_left_over(file: Path, reader: Any, model: PreTrainedModel) -> None:
    """Raise DapaError if file and model differ in their number of weights: transformers skips tensors silently."""
    stored = sum(int(tensor.n_elements) for tensor in reader.tensors)
    placed = sum(parameter.numel() for parameter in model.parameters())
    if stored != placed:
        layers = model.config.num_hidden_layers
        beyond = [t.name for t in reader.tensors if (m := re.match(r"blk\.(\d+)\.", t.name)) and int(m[1]) >= layers]
        named = f", such as {', '.join(beyond[:4])}" if beyond else ""
        raise DapaError(f"{file.name}: holds {stored:,} numbers, and the model that was made of it {placed:,}{named}")


def _field(reader: Any, name: str) -> Any:
    field = reader.get_field(name)
    return field.contents() if field else None
