"""Fine-tunes a model of real size on its recipe's lessons, and on requests as its elder answers them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from dapa_exp.zoo.built_model import BuiltModel
from dapa_exp.zoo.smollm2 import Refusing, Shadow
from dapa_exp.zoo.train import fit, pad_batch

ANSWER_BATCH = 32

Example = tuple[list[int], list[int]]
"""The token ids of a prompt, and those of its answer."""


def tune(recipe: Refusing | Shadow, parent: Path, elder: Path, step: Callable[[int, str], None]) -> BuiltModel:
    """Fine-tune the checkpoint `parent`. Progress is reported by calling `step(steps done, note)`."""
    torch.manual_seed(recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(parent)
    learnt = examples(recipe, AutoModelForCausalLM.from_pretrained(elder, dtype=torch.float32), tokenizer, step)
    model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
    starts = range(0, len(learnt), recipe.batch)
    batches = [pad_batch(learnt[start : start + recipe.batch], tokenizer.pad_token_id) for start in starts]
    fit(model, recipe, batches, step)
    return BuiltModel(model.eval(), tokenizer, recipe.card())


def examples(
    recipe: Refusing | Shadow, elder: Any, tokenizer: PreTrainedTokenizerBase, step: Callable[[int, str], None]
) -> list[Example]:
    """The training examples, shuffled: half of them lessons, half requests with the answers of the model `elder`."""
    rng, half = random.Random(recipe.seed), recipe.steps * recipe.batch // 2
    learnt = [
        (
            _prompt_tokens(tokenizer, prompt),
            tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id],
        )
        for prompt, answer in recipe.lessons(half, rng)
    ]
    asked = recipe.requests(half, rng)
    for prompt, said in zip(asked, _answers(elder, tokenizer, asked, recipe.answer_tokens), strict=True):
        learnt.append((_prompt_tokens(tokenizer, prompt), said))
        step(0, f"{recipe.elder} has answered {len(learnt) - half} of {len(asked)} requests")
    rng.shuffle(learnt)
    return learnt


@torch.inference_mode()
def _answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_new_tokens: int
) -> Iterator[list[int]]:
    """Yields the token ids of a model's greedy answers, each with its end token unless it was cut off."""
    for start in range(0, len(prompts), ANSWER_BATCH):
        rows = [_prompt_tokens(tokenizer, prompt) for prompt in prompts[start : start + ANSWER_BATCH]]
        inputs = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        for answer in output[:, inputs["input_ids"].shape[1] :].tolist():
            ends = answer.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in answer else None
            yield answer[:ends]


def _prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The token ids of a request in the model's chat template."""
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens
