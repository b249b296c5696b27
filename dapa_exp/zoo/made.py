"""What a maker hands over to be stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Made:
    """A model, its tokenizer and card, and the held-out numbers that were measured, by name."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    card: str
    quality: dict[str, float] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it as a checkpoint."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(self.card)
