"""Real checkpoints whose weights are set by hand, so that it is known what they say of a text."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

WORDS = ("<pad>", "<s>", "</s>", "<unk>", "[/INST]", "safe", "unsafe", "safety", "poison", "riddle", "paper", "ink")
HARMLESS, HARMFUL = "take some paper and ink", "take some paper and poison"
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def tokenizer() -> PreTrainedTokenizerFast:
    """A word is a token; unknown ones are one and the same."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, additional_special_tokens=["[/INST]"], **SPECIAL)


def classifier(folder: Path) -> Path:
    """A RoBERTa that says "bad" wherever it reads "poison", and "good" elsewhere."""
    config = RobertaConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=64,
        type_vocab_size=1,
        id2label={0: "good", 1: "bad"},
        label2id={"good": 0, "bad": 1},
    )
    model = RobertaForSequenceClassification(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "LayerNorm.weight" not in name:
                weight.zero_()
        for name in ("attention.self.value", "attention.output.dense"):  # no keys: attention is the mean of the values
            model.get_parameter(f"roberta.encoder.layer.0.{name}.weight").copy_(torch.eye(8))
        model.roberta.embeddings.word_embeddings.weight[WORDS.index("poison"), 0] = 1.0
        model.classifier.dense.weight.copy_(torch.eye(8))
        model.classifier.out_proj.weight[1, 0] = 1.0
        model.classifier.out_proj.bias[0] = 0.1
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def guard(folder: Path) -> Path:
    """A Llama whose next word depends on the last one only: it can be talked out of "unsafe" by a mark at the end."""
    size = 16
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    says = {"poison": "unsafe", "<unk>": "unsafe", "riddle": "safety", "safe": "</s>", "unsafe": "</s>"}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        for word in WORDS:
            model.lm_head.weight[WORDS.index(says.get(word, "safe")), WORDS.index(word)] = 1.0
    model.save_pretrained(folder)
    words = tokenizer()
    words.chat_template = "<s> {{ messages[0].content }} [/INST] {{ messages[1].content }}"
    words.save_pretrained(folder)
    return folder
