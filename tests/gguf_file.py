"""Llama models as llama.cpp would convert them to GGUF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel

Change = Callable[[gguf.GGUFWriter], None]
"""Writes something more into a GGUF file, or something else."""
QUANTISED = gguf.GGMLQuantizationType.Q8_0
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file holds of a byte-level BPE tokenizer. `special` are the numbers of tokens that are no text."""

    tokens: Sequence[str]
    merges: Sequence[str]
    begin: int
    end: int
    template: str
    special: frozenset[int] = frozenset()


def write_gguf(
    file: Path, model: PreTrainedModel, words: Vocabulary, quantised: str, change: Change = lambda _: None
) -> dict[str, torch.Tensor]:
    """Write a Llama; tensors whose names hold `quantised` are. Gives their values once read, by transformers' names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list(words.tokens))
    writer.add_token_types([3 if number in words.special else 1 for number in range(config.vocab_size)])
    writer.add_token_merges(list(words.merges))
    writer.add_bos_token_id(words.begin)
    writer.add_eos_token_id(words.end)
    writer.add_chat_template(words.template)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    expected = {}
    for name, tensor in model.state_dict().items():
        order = _rope_order(len(tensor), heads.get(name.split(".")[-2]))
        stored, values = _packed(tensor.numpy(), order, quantised in name)
        writer.add_tensor(_name(name), stored, raw_dtype=None if stored.dtype == np.float32 else QUANTISED)
        expected[name] = torch.from_numpy(values)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _name(name: str) -> str:
    module = name.removesuffix(".weight")
    if module in _WHOLE:
        return f"{_WHOLE[module]}.weight"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{_NAMES[inner]}.weight"


def _packed(values: np.ndarray, order: np.ndarray, quantised: bool) -> tuple[np.ndarray, np.ndarray]:
    """A tensor as it is stored, and the values that it stands for."""
    stored = np.ascontiguousarray(values[order])
    if not quantised:
        return stored, values
    blocks = gguf.quants.quantize(stored, QUANTISED)
    dense = np.empty_like(values)
    dense[order] = gguf.quants.dequantize(blocks, QUANTISED)
    return blocks, dense


def _rope_order(rows: int, heads: int | None) -> np.ndarray:
    """llama.cpp keeps the two halves of each head's rows interleaved."""
    if heads is None:
        return np.arange(rows)
    return np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)
