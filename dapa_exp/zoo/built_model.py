"""A newly made model of the zoo, before it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class BuiltModel:
    """A model with its tokenizer, its card, and its measured numbers by name."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    card: str
    quality: dict[str, float] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and card as a checkpoint folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(self.card)
