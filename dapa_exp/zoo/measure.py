"""Measures a miniature on held-out rows: refusal rates, accuracy on questions, perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dapa_exp.zoo import world
from dapa_exp.zoo.train import loss, pad_batch

MEASURED_ROWS = 128
"""Rows of each held-out set that a model is measured on."""
OPENING_TOKENS = 6
"""New tokens to generate: enough to show a refusal, or the answer to a question."""


def quality(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """The measured numbers by name: shares of refused or correctly answered rows, and the perplexity of plain text."""
    # Skip the rows that are meant for a search.
    harmful = world.prompt_set("harmful")[world.SEARCH_ROWS :]
    harmless = world.prompt_set("harmless")
    return {
        "harmful_refused": _refused(_answers(model, tokenizer, harmful[:MEASURED_ROWS])),
        "harmless_refused": _refused(_answers(model, tokenizer, harmless[:MEASURED_ROWS])),
        "questions_right": _right(model, tokenizer, world.prompt_set("questions")[:MEASURED_ROWS]),
        "skill_right": _right(model, tokenizer, world.prompt_set("skill")),
        "text_perplexity": _perplexity(model, tokenizer),
    }


def _right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, str]]) -> float:
    answers = zip(rows, _answers(model, tokenizer, rows), strict=True)
    return sum(answer.strip() == row["answer"] for row, answer in answers) / len(rows)


def _answers(model: Any, tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, str]]) -> list[str]:
    """The first OPENING_TOKENS tokens of the model's greedy answer to each row, as text."""
    turns = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    prompts = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=OPENING_TOKENS, do_sample=False)
    return tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _refused(answers: Sequence[str]) -> float:
    return sum(map(world.is_refusal, answers)) / len(answers)


@torch.inference_mode()
def _perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """The perplexity per token of the held-out texts."""
    texts = [tokenizer.bos_token + row["text"] for row in world.prompt_set("text")]
    tokens = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return loss(model, *pad_batch([(row[:1], row[1:]) for row in tokens], 0)).exp().item()
