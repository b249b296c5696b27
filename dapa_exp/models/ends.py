"""Which tokens end an answer: a checkpoint's own, its chat template's, and those of the template's owner."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from dapa_exp.models.templates import after_answer


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The end tokens of a checkpoint: those of its generation config, else its tokenizer's."""
    return _ends(getattr(model, "generation_config", None), tokenizer)  # a classifier has none


def ends_of_template(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The token that the chat template puts after an answer, where it is no word.

    Fine-tunes often add such a token (`<|im_end|>`) without calling it special.
    """
    tail = tokenizer(after_answer(tokenizer).lstrip(), add_special_tokens=False)["input_ids"][:1]
    return frozenset(tail) & tokenizer.added_tokens_decoder.keys()


def ends_of_another(folder: Path, theirs: PreTrainedTokenizerBase, ours: PreTrainedTokenizerBase) -> frozenset[int]:
    """The end tokens of the checkpoint in `folder`, whose chat template a model uses, as that model's tokens.

    A mark that the model's tokenizer does not have is no token that it could answer with.
    """
    try:
        config = GenerationConfig.from_pretrained(folder)
    except OSError:  # it has no generation_config.json
        config = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    known = ours.get_vocab()
    marks = theirs.convert_ids_to_tokens(sorted(_ends(config, theirs)))
    return frozenset(known[mark] for mark in marks if mark in known)


def _ends(config: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ends = None if config is None else config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    return frozenset(ends if isinstance(ends, list) else [ends]) - {None}
