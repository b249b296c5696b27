"""Loads a checkpoint for generation: the model, its tokenizer, and the template that prompts go through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from dapa_exp.base.errors import DapaError
from dapa_exp.config.schema import Runtime
from dapa_exp.models.ends import ends_of, ends_of_another, ends_of_template
from dapa_exp.models.templates import StoredTemplate

transformers_logging.disable_progress_bar()  # its bars would break through ours


@dataclass(frozen=True)
class LoadedModel:
    """A model, its tokenizer, and the tokens that end an answer, where the model's own config does not say all."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int] = frozenset()


def load_model(
    folder: Path, runtime: Runtime, template_folder: Path | None = None, thinking: bool | None = None
) -> LoadedModel:
    """A model in evaluation mode on the runtime's device, and its tokenizer, padding on the left.

    On the device `auto`, its layers are spread over all there are. `template_folder` is the checkpoint whose chat
    template is used in place of the model's own: its end tokens end an answer too. `thinking` switches thinking on or
    off in the template, where it can be switched.
    Raises DapaError where the weights cannot be read, some are missing, there is no chat template that can be used, or
    the device cannot take them.
    """
    spread = runtime.device == "auto"
    choose_attention(runtime.device)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, runtime.dtype),
            device_map="auto" if spread else None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # on a damaged file the libraries raise whatever comes up
        raise DapaError(f"{folder}: cannot be loaded: {type(error).__name__}: {error}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):  # transformers would go on with random numbers
        raise DapaError(f"{folder}: the checkpoint lacks {len(missing)} of the model's tensors, such as {missing[0]}")
    tokenizer, ends = _tokenizer(folder), frozenset[int]()
    if template_folder is not None:
        other = _tokenizer(template_folder)
        tokenizer.chat_template = other.chat_template
        ends = ends_of_another(template_folder, other, tokenizer)
    _settle_template(tokenizer, template_folder or folder, thinking)
    tokenizer.padding_side = "left"
    ensure_padding(model, tokenizer)
    if not spread:
        _move(model, runtime.device)
    return LoadedModel(model.eval(), tokenizer, ends | ends_of(model, tokenizer) | ends_of_template(tokenizer))


def choose_attention(device: str) -> None:
    """Leave cuDNN's attention out on a GPU: it builds a plan for each length, and answers grow by a token a pass.

    On an H200 a forward pass of a 7B shape at a length that is new to the process took 45 to 69 ms, at a known one 14 ms,
    8 ms of them on the GPU. What it gains has not been measured: tests/benchmarks/gpu.py measures both.
    """
    if device.startswith("cuda") or device == "auto":
        torch.backends.cuda.enable_cudnn_sdp(False)


def ensure_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have it pad with the end token where it has no padding token, or one that was added without an embedding."""
    rows: Any = model.get_input_embeddings()
    if tokenizer.pad_token is None or tokenizer.pad_token_id >= rows.num_embeddings:
        tokenizer.pad_token = tokenizer.eos_token


def _settle_template(tokenizer: PreTrainedTokenizerBase, folder: Path, thinking: bool | None) -> None:
    """Give the tokenizer the one chat template, out of `folder`, that all prompts go through."""
    content: Any = tokenizer.chat_template
    if not content:
        raise DapaError(
            f"{folder}: the tokenizer has no chat template; only a student can do without, by"
            " pair.chat_template=teacher"
        )
    try:
        tokenizer.chat_template = StoredTemplate(content).settled(thinking)
    except DapaError as error:
        raise DapaError(f"{folder}: {error}") from None


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
