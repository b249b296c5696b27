"""A sequence classifier as judge, such as GPTFuzz's RoBERTa."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForSequenceClassification

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.config.schema import Classifier
from dapa_exp.judges.contract import Verdict
from dapa_exp.judges.defuse import defused
from dapa_exp.judges.degenerate import judged_where_language
from dapa_exp.judges.local import batches, load
from dapa_exp.judges.versions import with_model


class ClassifierJudge:
    """Its most likely label, as the config translates it."""

    name = "classifier"
    remote = False
    template = None

    def __init__(self, settings: Classifier) -> None:
        self._settings = settings
        self.version = with_model("classifier", settings.model.id, settings.model.revision)
        self._model, self._tokenizer = load(settings, AutoModelForSequenceClassification)
        self._tokenizer.truncation_side = "right"
        labels: dict[int, str] = self._model.config.id2label
        if unknown := next((name for name in settings.labels if name not in labels.values()), None):
            raise DapaError(
                f"judge.labels: {settings.model.id} has no label '{unknown}'.{nearest(unknown, labels.values())}"
            )
        if unnamed := next((name for name in labels.values() if name not in settings.labels), None):
            raise DapaError(f"judge.labels: says nothing of {settings.model.id}'s label '{unnamed}'")
        self._meaning = [Verdict(settings.labels[labels[place]]) for place in sorted(labels)]

    def verdicts(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        return judged_where_language(prompts, completions, self._ask)

    def final(self, prompt: str, partial: str) -> bool | None:
        return None

    @torch.inference_mode()
    def _ask(self, rows: list[tuple[str, str]]) -> list[Verdict]:
        found: list[Verdict] = []
        for batch in batches(rows, self._settings.batch_size):
            inputs = self._tokenizer(
                *self._texts(batch),
                return_tensors="pt",
                padding=True,
                truncation="longest_first",
                max_length=self._settings.max_tokens,
            )
            logits = self._model(**inputs.to(self._model.device)).logits
            found += [self._meaning[place] for place in logits.argmax(-1).tolist()]
        return found

    def _texts(self, batch: list[tuple[str, str]]) -> list[list[str]]:
        marks = self._tokenizer.all_special_tokens
        columns = [[defused(text, marks) for text in column] for column in zip(*batch, strict=True)]
        return columns[1:] if self._settings.reads == "response" else columns
