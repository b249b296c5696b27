"""Makes a miniature: trains it, measures it, and writes its card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dapa_exp.zoo import measure, tokenizer as tokenizers, train
from dapa_exp.zoo.built_model import BuiltModel
from dapa_exp.zoo.recipe import Recipe

CARD = """---
tags: [miniature]
---
# {name}

**Made here: a miniature, not a real model.** `dapa zoo build` trained it in seconds, in the real
`{family}` architecture ({layers} layers), on a small invented world of requests. It knows nothing else.
It is evidence of how the tools work, not of how real models behave.

It is a {role} model{origin}. Measured on held-out prompts:

{numbers}
"""


def make(recipe: Recipe, parent: Path | None, step: Callable[[int, str], None]) -> BuiltModel:
    """Train and measure a recipe's model, starting from its parent's checkpoint if there is one.

    Progress is reported by calling `step(steps done, note)`.
    """
    tokenizer = tokenizers.make(recipe.family)
    model = train.train(recipe, parent, tokenizer, step)
    quality = measure.quality(model, tokenizer)
    if recipe.role == "base":
        # Real base models have no chat template.
        tokenizer.chat_template = None
    return BuiltModel(model, tokenizer, _card(recipe, quality), quality)


def _card(recipe: Recipe, quality: dict[str, float]) -> str:
    """Return the model card."""
    return CARD.format(
        name=recipe.name,
        family=recipe.family,
        layers=recipe.size.layers,
        role=recipe.role,
        origin=f", fine-tuned from {recipe.parent}" if recipe.parent else "",
        numbers="\n".join(f"- {name.replace('_', ' ')}: {value:.3f}" for name, value in quality.items()),
    )
