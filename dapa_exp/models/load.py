"""Loads a checkpoint for generation: the model, its tokenizer, and the template that prompts go through."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast
from weakref import ref

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from dapa_exp.base.errors import DapaError
from dapa_exp.base.unplaced import refuse_unplaced, refuse_untied
from dapa_exp.config.schema import Runtime
from dapa_exp.models.ends import ends_of, ends_of_another, ends_of_template
from dapa_exp.models.templates import StoredTemplate

transformers_logging.disable_progress_bar()  # its bars would break through ours

NO_TOKENIZER = "no tokenizer there; copy tokenizer.json and tokenizer_config.json from the model that it was tuned from"
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json")
_UNREAD = re.compile(r"(^|\.)pooler\.")
"""Encoders' checkpoints often hold a pooler that their model for classification does without."""


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
    model = load_whole(
        AutoModelForCausalLM,
        folder,
        str(folder),
        dtype=getattr(torch, runtime.dtype),
        device_map="auto" if spread else None,
    )
    tokenizer, ends = load_tokenizer(folder, template_folder, thinking)
    fit_tokenizer(model, tokenizer, str(folder))
    ends |= ends_of(model, tokenizer) | ends_of_template(tokenizer)
    _refuse_endless(model, ends, str(folder))
    if not spread:
        _move(model, runtime.device)
    return LoadedModel(model.eval(), tokenizer, ends)


def load_tokenizer(
    folder: Path, template_folder: Path | None = None, thinking: bool | None = None
) -> tuple[PreTrainedTokenizerBase, frozenset[int]]:
    """A model's tokenizer with its chat template, and the end tokens of another model whose template it uses.

    The parameters and errors are those of `load_model`.
    """
    tokenizer, ends = _tokenizer(folder), frozenset[int]()
    if template_folder is not None:
        other = _tokenizer(template_folder)
        tokenizer.chat_template = other.chat_template
        ends = ends_of_another(template_folder, other, tokenizer)
    _settle_template(tokenizer, template_folder or folder, thinking)
    tokenizer.padding_side = "left"
    return tokenizer, ends


def choose_attention(device: str) -> None:
    """Leave cuDNN's attention out on a GPU: it builds a plan for each length, and answers grow by a token a pass.

    On an H100, 32 rows of a 7B shape got 407 tokens a second with it at lengths that were new to the process, and 1,460
    without it.
    """
    if device.startswith("cuda") or device == "auto":
        torch.backends.cuda.enable_cudnn_sdp(False)


def holds_tokenizer(name: str) -> bool:
    """Whether a file of this name has a tokenizer's vocabulary."""
    return any(fnmatchcase(name, pattern) for pattern in _VOCABULARIES)


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
    _refuse_unplaced(name, model, info)
    _refuse_overflow(model, name)
    return model


@contextmanager
def only_whole(name: str) -> Iterator[None]:
    """Within the block, models that other code loads by transformers are refused as `load_whole` refuses them."""
    load = PreTrainedModel.__dict__["from_pretrained"]

    def checked(cls: Any, *args: Any, output_loading_info: bool = False, **settings: Any) -> Any:
        model, info = load.__func__(cls, *args, output_loading_info=True, **settings)
        _refuse_unplaced(name, model, info)
        return (model, info) if output_loading_info else model

    PreTrainedModel.from_pretrained = classmethod(checked)  # type: ignore[assignment]
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = load  # type: ignore[method-assign]


def _refuse_unplaced(name: str, model: PreTrainedModel, info: Mapping[str, Collection[str]]) -> None:
    left_over = {key for key in info["unexpected_keys"] if not _UNREAD.search(key)}
    refuse_unplaced(name, info["missing_keys"], left_over)
    named = model.get_expanded_tied_weights_keys(all_submodels=True)
    if untied := sorted(named.keys() - model.all_tied_weights_keys.keys()):  # their values differ in the files
        refuse_untied(name, untied[0], named[untied[0]])


def _refuse_overflow(model: PreTrainedModel, name: str) -> None:
    """Have the model raise a DapaError where it computes NaN or infinite logits: the largest of them means nothing."""

    def check(_: torch.nn.Module, __: Any, output: Any) -> None:
        logits: torch.Tensor = getattr(output, "logits", output)
        if logits.is_cuda and torch.cuda.is_current_stream_capturing():
            return  # no one can wait for a number there; FixedSteps looks at the logits itself
        low, high = logits.aminmax()  # NaN goes through to both
        if not (low.isfinite() and high.isfinite()):
            raise DapaError(f"{name}: computes NaN or infinite logits: {_why_overflow(cast(PreTrainedModel, owner()))}")

    owner = ref(model)  # a hook that held the model would keep it in memory until the garbage collector comes by
    head = model.get_output_embeddings()  # before a cap, as Gemma 2 has one, hides what is infinite
    (model if head is None else head).register_forward_hook(check)


def _why_overflow(model: PreTrainedModel) -> str:
    """The tensor that holds no numbers, where there is one; else the dtype is too small for what is computed."""
    dtype = str(model.dtype).removeprefix("torch.")
    broken = (name for name, tensor in model.named_parameters() if not tensor.isfinite().all())
    if (found := next(broken, None)) is not None:
        return f"{found} holds NaN or infinite values in {dtype}"
    return f"{dtype} is too small for them; bfloat16 and float32 hold larger numbers"


def fit_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Have the tokenizer pad with a token that the model has an embedding for, and the model refuse tokens without one.

    Raises DapaError where there is nothing to pad with.
    """
    embeddings: Any = model.get_input_embeddings()
    rows: int = embeddings.num_embeddings
    special = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
    ends = sorted(ends_of(model, tokenizer))
    candidates = [tokenizer.pad_token_id, tokenizer.eos_token_id, *ends, *tokenizer.all_special_ids, *special]
    padding = next((token for token in candidates if token is not None and token < rows), None)
    if padding is None:
        raise DapaError(f"{name}: no token to pad with; name an eos_token or pad_token in tokenizer_config.json")
    if padding != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)

    def check(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        # A token that the model itself has said has an embedding, so a decoding step need not wait for the answer.
        if args and args[0].shape[-1] > 1 and args[0].numel() and (highest := int(args[0].max())) >= rows:
            raise DapaError(f"{name}: {strange(highest)}")

    def strange(token: int) -> str:
        text = tokenizer.convert_ids_to_tokens(token)
        return f"the tokenizer has the token '{text}' ({token}), and the model embeddings for {rows} tokens only"

    embeddings.register_forward_pre_hook(check)


def _refuse_endless(model: PreTrainedModel, ends: frozenset[int], name: str) -> None:
    """Raise a DapaError where the model cannot say any token that ends an answer, so that none would ever end."""
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.num_embeddings
    if all(end >= rows for end in ends):
        found = f"{sorted(ends)} lie beyond its {rows} embeddings" if ends else "there is none"
        raise DapaError(f"{name}: no end token that the model can say ({found}); set eos_token_id in config.json")


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
    if not any(holds_tokenizer(file.name) for file in folder.iterdir()):
        raise DapaError(f"{folder}: {NO_TOKENIZER}")
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
