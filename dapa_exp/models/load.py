"""Loads a checkpoint for generation: the model, its tokenizer, and the template that prompts go through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from dapa_exp.config.schema import Runtime
from dapa_exp.errors import DapaError

transformers_logging.disable_progress_bar()  # its bars would break through ours


@dataclass(frozen=True)
class LoadedModel:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_model(folder: Path, runtime: Runtime, template_folder: Path | None = None) -> LoadedModel:
    """A model in evaluation mode on the runtime's device, and its tokenizer, padding on the left.

    `template_folder` is the checkpoint whose chat template is used in place of the model's own.
    Raises DapaError where the weights cannot be read or there is no chat template.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, runtime.dtype), use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise DapaError(f"{folder}: cannot be loaded: {error}") from error
    if template_folder is not None:
        tokenizer.chat_template = AutoTokenizer.from_pretrained(template_folder).chat_template
    if not tokenizer.chat_template:
        raise DapaError(f"{folder}: the tokenizer has no chat template; pair.chat_template=teacher uses the teacher's")
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    module: torch.nn.Module = model  # transformers wraps `to` in a way that type checkers misread
    module.to(runtime.device)
    return LoadedModel(model.eval(), tokenizer)
