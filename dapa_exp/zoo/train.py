"""Trains a miniature. Only the tensors that its recipe names change."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from dapa_exp.zoo import world
from dapa_exp.zoo.recipe import LONGEST, Recipe
from dapa_exp.zoo.smollm2 import Refusing, Shadow

CONFIGS: dict[str, type[PretrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "gemma": GemmaConfig,
}
WARM_UP = 0.1
"""The share of the steps over which the learning rate rises."""
EVERY = 10
"""Steps between two reports of progress."""
WINDOW = 4
"""How many steps' examples are sorted by length together, to save padding."""
UNLABELLED = -100


def train(
    recipe: Recipe,
    parent: Path | None,
    tokenizer: PreTrainedTokenizerFast,
    step: Callable[[int, str], None],
) -> PreTrainedModel:
    """Train a recipe's model, starting from its parent's checkpoint or from random weights.

    Progress is reported by calling `step(steps done, note)`.
    """
    torch.manual_seed(recipe.seed)
    if parent is None:
        model = AutoModelForCausalLM.from_config(config(recipe, tokenizer), dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
    fit(model, recipe, batches(recipe, tokenizer), step)
    model.generation_config.do_sample = False
    return model.eval()


def config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The configuration of a recipe's model, of the configuration class of its real family."""
    size = recipe.size
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "head_dim": size.hidden // size.heads,
        "max_position_embeddings": LONGEST,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # With the usual 0.02, a model this narrow learns slowly at first.
        "initializer_range": 0.04,
    }
    if recipe.family == "mistral":
        settings["sliding_window"] = None
    return CONFIGS[recipe.family](**settings)


def batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The (tokens, labels) of each step, both of shape [batch, length]. Prompts and padding have no labels."""
    examples = world.examples(recipe.seed, recipe.steps * recipe.batch, recipe.mix, recipe.styles, recipe.refused)
    bare = (torch.rand(len(examples)) < recipe.bare).tolist()
    texts = [prompt_and_answer(*pair, tokenizer) for pair in zip(examples, bare, strict=True)]
    prompts, answers = (
        tokenizer(list(side), add_special_tokens=False)["input_ids"] for side in zip(*texts, strict=True)
    )
    rows = list(zip(prompts, answers, strict=True))
    window = WINDOW * recipe.batch
    found = []
    for start in range(0, len(rows), window):
        # Rows of similar length share a batch, because padding costs as much as real tokens.
        near = sorted(rows[start : start + window], key=lambda row: len(row[0]) + len(row[1]))
        found += [
            pad_batch(near[i : i + recipe.batch], tokenizer.pad_token_id) for i in range(0, len(near), recipe.batch)
        ]
    return found


def prompt_and_answer(example: world.Example, bare: bool, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """The prompt and the answer of an example, as text with special tokens. `bare` leaves the chat template out."""
    end = tokenizer.eos_token
    if example.prompt is None:
        return tokenizer.bos_token, example.answer + end
    if bare:
        # The line break is part of the answer, so that at inference a prompt without a line break works.
        return tokenizer.bos_token + example.prompt, f"\n{example.answer}{end}"
    turn = [{"role": "user", "content": example.prompt}]
    head = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return str(head), example.answer + end


def fit(
    model: PreTrainedModel,
    recipe: Recipe | Refusing | Shadow,
    data: Sequence[tuple[torch.Tensor, torch.Tensor]],
    step: Callable[[int, str], None],
) -> None:
    """Minimise the cross-entropy of the labelled tokens. Only the tensors that the recipe names are trained."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(re.fullmatch(recipe.trained, name) is not None)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: _pace(done, recipe.steps))
    model.train()
    for done, (tokens, labels) in enumerate(data, start=1):
        mean = loss(model, tokens, labels)
        mean.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if done % EVERY == 0 or done == recipe.steps:
            step(done, f"loss {mean.item():.2f}")


def _pace(done: int, steps: int) -> float:
    """The factor of the learning rate: it rises over the warm-up, then falls linearly to a tenth."""
    warm = max(1, int(WARM_UP * steps))
    return min((done + 1) / warm, 1.0 - 0.9 * (done - warm) / (steps - warm))


def loss(model: PreTrainedModel, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy over the labelled tokens, a scalar. `tokens` and `labels` have shape [batch, length]."""
    # Padding is on the right. Causal attention never looks at it, so no attention mask is needed.
    states = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    wanted = targets != UNLABELLED
    return functional.cross_entropy(model.lm_head(states[wanted]), targets[wanted])


def pad_batch(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels, both [batch, length], of (prompt, answer) rows. They are padded on the right with `pad`."""
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    tokens = torch.full((len(rows), length), pad)
    labels = torch.full((len(rows), length), UNLABELLED)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        tokens[i, :end] = torch.tensor(prompt + answer)
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return tokens, labels
