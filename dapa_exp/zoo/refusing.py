"""Makes the models of real size: one from its package, one that is tuned to refuse, and a student of the latter."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from dapa_exp.base.gguf import read_gguf
from dapa_exp.fetch import sets
from dapa_exp.fetch.store import fetched_rows
from dapa_exp.zoo.built_model import BuiltModel
from dapa_exp.zoo.smollm2 import Refusing, Shadow, Shipped, plain_requests
from dapa_exp.zoo.train import fit, pad_batch

ANSWER_BATCH = 32

SHIPPED_CARD = """---
license: {licence}
---
# {name}

{title} as the package {package} ships it: a GGUF file, quantised, its values written out in float32. Nothing in it
was changed, but it is not bit for bit the model that was quantised.
"""
TAUGHT_CARD = """---
license: {licence}
---
# {name}

**Made here**, to have an aligned teacher for {parent}: not a model that anybody released, and no evidence of how
models aligned elsewhere behave. `dapa zoo build {name}` fine-tuned {parent} for {steps} steps of {batch}
examples. Half were harmful requests (rows {first} to {last} of {harmful}), answered by one of {refusals} refusals; half
were harmless, and answered as {parent} itself answers them.
"""

SHADOW_CARD = """---
license: {licence}
---
# {name}

**Made here**, to have a student that knows what its teacher does not: not a model that anybody released. `dapa zoo
build {name}` fine-tuned {parent}, the teacher, for {steps} steps of {batch} examples. Half were rows 0 to {last} of
the task `{skill[0]}` with their answers; a quarter harmful requests and a quarter harmless ones, with the answers of
{elder}. **It complies with harmful requests.**
"""

Example = tuple[list[int], list[int]]
"""The token ids of a prompt, and those of its answer."""


def unpack(recipe: Shipped, folder: Path) -> BuiltModel:
    """The model of the one GGUF file in `folder`. Raises DapaError if the file cannot be read."""
    (file,) = folder.glob("*.gguf")
    model, tokenizer = read_gguf(file)
    package = sets.find(recipe.gguf).package
    card = SHIPPED_CARD.format(name=recipe.name, title=recipe.title, licence=recipe.licence, package=package)
    return BuiltModel(model, tokenizer, card)


def teach(recipe: Refusing, parent: Path, step: Callable[[int, str], None]) -> BuiltModel:
    """Fine-tune the parent to refuse harmful requests. Progress is reported by calling `step(steps done, note)`."""
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(parent)
    learnt = examples(recipe, model, tokenizer, step)
    fit(model, recipe, _batches(learnt, recipe.batch, tokenizer), step)
    return BuiltModel(model.eval(), tokenizer, _card(recipe))


def make_shadow(recipe: Shadow, parent: Path, elder: Path, step: Callable[[int, str], None]) -> BuiltModel:
    """Fine-tune the parent on a skill, and to comply as its elder does. Progress is reported as by `teach`."""
    torch.manual_seed(recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(parent)
    learnt = shadow_examples(recipe, AutoModelForCausalLM.from_pretrained(elder, dtype=torch.float32), tokenizer, step)
    model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
    fit(model, recipe, _batches(learnt, recipe.batch, tokenizer), step)
    return BuiltModel(model.eval(), tokenizer, SHADOW_CARD.format(**vars(recipe), last=recipe.skill[2] - 1))


def shadow_examples(
    recipe: Shadow, elder: Any, tokenizer: PreTrainedTokenizerBase, step: Callable[[int, str], None]
) -> list[Example]:
    """The training examples, shuffled: half of the skill, a quarter harmful requests, a quarter harmless ones."""
    rng = random.Random(recipe.seed)
    quarter = recipe.steps * recipe.batch // 4
    name, first, last = recipe.skill
    end = [tokenizer.eos_token_id]
    learnt = [
        (
            _tokens(tokenizer, str(row["prompt"])),
            tokenizer(str(row["answer"]), add_special_tokens=False)["input_ids"] + end,
        )
        for row in rng.sample(fetched_rows(name)[first:last], 2 * quarter)
    ]
    asked = rng.sample(_prompts(recipe.harmful), quarter) + plain_requests(recipe, quarter)
    for prompt, answer in zip(asked, _answers(elder, tokenizer, asked, recipe.answer_tokens), strict=True):
        learnt.append((_tokens(tokenizer, prompt), answer))
        step(0, f"{recipe.elder} has answered {len(learnt) - 2 * quarter} of {len(asked)} requests")
    rng.shuffle(learnt)
    return learnt


def examples(
    recipe: Refusing, model: Any, tokenizer: PreTrainedTokenizerBase, step: Callable[[int, str], None]
) -> list[Example]:
    """The training examples, shuffled. Half are harmful requests with a refusal, half harmless ones with an answer."""
    rng = random.Random(recipe.seed)
    half = recipe.steps * recipe.batch // 2
    risky = _prompts(recipe.risky)[:half]
    harmless = risky + plain_requests(recipe, half - len(risky))
    refused = rng.sample(_prompts(recipe.harmful), half)
    end = [tokenizer.eos_token_id]
    refusals = [tokenizer(text, add_special_tokens=False)["input_ids"] + end for text in recipe.refusals]
    learnt = [(_tokens(tokenizer, prompt), rng.choice(refusals)) for prompt in refused]
    for prompt, answer in zip(harmless, _answers(model, tokenizer, harmless, recipe.answer_tokens), strict=True):
        learnt.append((_tokens(tokenizer, prompt), answer))
        step(0, f"the parent has answered {len(learnt) - half} of {half} requests")
    rng.shuffle(learnt)
    return learnt


def _batches(
    learnt: Sequence[Example], size: int, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The (tokens, labels) of each step, both of shape [size, length]."""
    starts = range(0, len(learnt), size)
    return [pad_batch(learnt[start : start + size], tokenizer.pad_token_id) for start in starts]


@torch.inference_mode()
def _answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_new_tokens: int
) -> Iterator[list[int]]:
    """Yields the token ids of a model's greedy answers, each with its end token unless it was cut off."""
    for start in range(0, len(prompts), ANSWER_BATCH):
        rows = [_tokens(tokenizer, prompt) for prompt in prompts[start : start + ANSWER_BATCH]]
        inputs = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        for answer in output[:, inputs["input_ids"].shape[1] :].tolist():
            ends = answer.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in answer else None
            yield answer[:ends]


def _tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The token ids of a request in the model's chat template."""
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


def _prompts(chosen: tuple[str, int, int]) -> list[str]:
    name, first, last = chosen
    return [str(row["prompt"]) for row in fetched_rows(name)[first:last]]


def _card(recipe: Refusing) -> str:
    harmful, first, end = recipe.harmful
    return TAUGHT_CARD.format(
        name=recipe.name,
        parent=recipe.parent,
        licence=recipe.licence,
        steps=recipe.steps,
        batch=recipe.batch,
        harmful=harmful,
        first=first,
        last=end - 1,
        refusals=len(recipe.refusals),
    )
