"""Loads a checkpoint for generation: the model, its tokenizer, and the template that prompts go through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from dapa_exp.base.errors import DapaError
from dapa_exp.base.unplaced import refuse_unplaced
from dapa_exp.config.schema import Runtime

transformers_logging.disable_progress_bar()  # its bars would break through ours

_UNREAD = re.compile(r"(^|\.)pooler\.")
"""Encoders' checkpoints often hold a pooler that their model for classification does without."""


@dataclass(frozen=True)
class LoadedModel:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_model(folder: Path, runtime: Runtime, template_folder: Path | None = None) -> LoadedModel:
    """A model in evaluation mode on the runtime's device, and its tokenizer, padding on the left.

    On the device `auto`, its layers are spread over all there are. `template_folder` is the checkpoint whose chat
    template is used in place of the model's own.
    Raises DapaError where the weights cannot be read, some are missing, there is no chat template, or the device
    cannot take them.
    """
    spread = runtime.device == "auto"
    model = load_whole(
        AutoModelForCausalLM,
        folder,
        str(folder),
        dtype=getattr(torch, runtime.dtype),
        device_map="auto" if spread else None,
    )
    tokenizer = _tokenizer(folder)
    if template_folder is not None:
        tokenizer.chat_template = _tokenizer(template_folder).chat_template
    if not tokenizer.chat_template:
        raise DapaError(
            f"{template_folder or folder}: the tokenizer has no chat template; only a student can do without, by"
            " pair.chat_template=teacher"
        )
    tokenizer.padding_side = "left"
    ensure_padding(model, tokenizer)
    if not spread:
        _move(model, runtime.device)
    return LoadedModel(model.eval(), tokenizer)


def load_whole(auto_class: Any, folder: Path, name: str, **settings: Any) -> Any:
    """A model of one of transformers' auto classes, every tensor of which came from the folder's safetensors.

    `name` is what the user knows it by. Raises DapaError where it cannot be loaded, and where tensors are missing,
    left over, or of another shape than the model's: transformers would go on with random numbers. It also raises one
    where it computes NaN later on.
    """
    try:
        model, info = auto_class.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **settings
        )
    except Exception as error:  # on a damaged file the libraries raise whatever comes up
        raise DapaError(f"{name}: cannot be loaded: {type(error).__name__}: {error}") from error
    left_over = {key for key in info["unexpected_keys"] if not _UNREAD.search(key)}
    refuse_unplaced(name, info["missing_keys"], left_over)
    _refuse_overflow(model, name)
    return model


def _refuse_overflow(model: PreTrainedModel, name: str) -> None:
    """Have the model raise a DapaError where it computes NaN or infinite logits: the largest of them means nothing."""

    def check(_: torch.nn.Module, __: Any, output: Any) -> None:
        logits: torch.Tensor = getattr(output, "logits", output)
        low, high = logits.aminmax()  # NaN goes through to both
        if not (low.isfinite() and high.isfinite()):
            kind = str(logits.dtype).removeprefix("torch.")
            hint = "; float16 holds no number above 65504, bfloat16 and float32 do" if kind == "float16" else ""
            raise DapaError(f"{name}: computes NaN or infinite logits in {kind}{hint}")

    head = model.get_output_embeddings()  # before a cap, as Gemma 2 has one, hides what is infinite
    (model if head is None else head).register_forward_hook(check)


def ensure_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have it pad with the end token where it has no padding token, or one that was added without an embedding."""
    rows: Any = model.get_input_embeddings()
    if tokenizer.pad_token is None or tokenizer.pad_token_id >= rows.num_embeddings:
        tokenizer.pad_token = tokenizer.eos_token


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise DapaError(f"{folder}: the tokenizer cannot be loaded: {type(error).__name__}: {error}") from error
    return tokenizer


def _move(model: torch.nn.Module, device: str) -> None:
    try:
        model.to(device)
    except torch.OutOfMemoryError as error:
        raise DapaError(f"runtime.device={device}: its memory does not suffice for the model: {error}") from error
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise DapaError(f"runtime.device={device}: cannot be used: {error}") from error
