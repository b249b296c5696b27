"""What judges with a model of their own on this machine share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Classifier, Guard
from dapa_exp.models.checkpoint import locate
from dapa_exp.models.load import fit_tokenizer, load_whole


def load(settings: Classifier | Guard, auto_class: Any) -> tuple[Any, PreTrainedTokenizerBase]:
    """The judge's model in evaluation mode on its device, and its tokenizer.

    Raises DapaError where the checkpoint cannot be had, cannot be loaded, or does not fill the model.
    """
    name = f"judge {settings.name}: {settings.model.id}"
    folder = locate(settings.model, weights=True)
    model = load_whole(auto_class, folder, name, dtype=getattr(torch, settings.dtype))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model.to(settings.device)
    except Exception as error:  # on a damaged file the libraries raise whatever comes up
        raise DapaError(f"{name}: cannot be loaded: {type(error).__name__}: {error}") from error
    fit_tokenizer(model, tokenizer, name)
    model.config.pad_token_id = tokenizer.pad_token_id  # by which some models find a text's last token
    return model.eval(), tokenizer


def batches(rows: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    """The rows in their order, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
