"""Tiny pairs whose hybrids disagree, and what tests ask of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dapa_exp.models.architecture import units
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader
from dapa_exp.prompts.prompt import Prompt, prompt
from dapa_exp.transplant.hybrid import Hybrid
from tests.tiny import tiny_loaded, tiny_model

LAYERS = 4
TEXTS = [
    "how do i bake a cake?",
    "hi",
    "i want to restore a bicycle. what should i do?",
    "write a guide to wrap a teapot, slowly, with a friend, by night and step by step.",
    "what is 3 plus 4?",
]
PROMPTS = [prompt(str(i), text) for i, text in enumerate(TEXTS)]
WILD = 8.0
"""Untrained layers are so weak that they hardly change a word; so much stronger, every hybrid says something else."""
ALIKE = 0.9
"""How much of the student is in its teacher, so that hybrids say the same for some words."""


@dataclass(frozen=True)
class Siblings:
    """A loaded student and the hybrids it can become."""

    loaded: LoadedModel
    hybrid: Hybrid

    def candidates(self, count: int, seed: int = 0) -> list[frozenset[str]]:
        """Nothing, everything, and random sets, some of them asked for again."""
        names, draw = list(self.hybrid.pair.units), random.Random(seed)
        drawn = [frozenset(draw.sample(names, draw.randint(0, len(names)))) for _ in range(count - 2)]
        return [frozenset(), frozenset(names), *drawn]


def siblings(
    folder: Path, family: str, modules: tuple[str, ...] = ("mlp", "attention"), **changed: int | None
) -> Siblings:
    """A pair of a family with weights of its own, on disk and in memory. `changed` are keys of its config."""
    tokenizer = tiny_loaded(family, 0).tokenizer
    config = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "num_hidden_layers": LAYERS,
        **{key: value for key, value in changed.items() if value is not None},
    }
    models = {role: tiny_model(family, seed, **config) for seed, role in enumerate(("teacher", "student"), start=1)}
    with torch.no_grad():
        teachers = dict(models["teacher"].named_parameters())
        for name, ours in models["student"].named_parameters():
            if "layers" in name and ours.dim() > 1:
                ours.mul_(WILD)
                teachers[name].mul_(WILD).lerp_(ours, ALIKE)
    for role, model in models.items():
        model.save_pretrained(folder / role)
    teacher, student = (TensorReader(folder / role) for role in models)
    found = units(family, LAYERS, modules, student)
    pair = Pair(folder / "teacher", folder / "student", teacher, student, family, LAYERS, found, ())
    return Siblings(LoadedModel(models["student"].eval(), tokenizer), Hybrid(models["student"], pair))


def some_are_decided(row: Prompt, beginning: str) -> bool:
    """A stand-in for a judge: decides some answers at once, some later, some never."""
    return len(beginning) > 0 and (len(beginning) + len(row.text)) % 13 == 0


@contextmanager
def room_for(model: nn.Module, rows: int) -> Iterator[list[int]]:
    """A device that runs out of memory where a pass has more rows; lists how many it had each time."""
    refused: list[int] = []

    def check(module: nn.Module, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        if (asked := len(kwargs["input_ids"])) > rows:
            refused.append(asked)
            raise torch.OutOfMemoryError("out of memory")

    hook = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield refused
    finally:
        hook.remove()
