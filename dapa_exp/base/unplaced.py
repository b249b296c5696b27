"""Refuses checkpoints whose tensors are not exactly the model's: transformers fills missing ones with random values."""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn

from dapa_exp.base.errors import DapaError

_SHOWN = 4


def refuse_unplaced(source: str, missing: Collection[str], left_over: Collection[str]) -> None:
    """Raise a DapaError if a checkpoint lacks tensors of the model, or holds tensors that the model does not have.

    `source` names the checkpoint in the message. `missing` and `left_over` are tensor names.
    """
    wrong = []
    if missing:
        wrong.append(f"lacks {len(missing)} of the model's tensors, such as {_some(missing)}")
    if left_over:
        wrong.append(f"holds {len(left_over)} tensors that have no place in the model, such as {_some(left_over)}")
    if wrong:
        raise DapaError(f"{source}: {'; '.join(wrong)}{_hint(missing, left_over)}")


def refuse_untied(source: str, head: str, embeddings: str) -> NoReturn:
    """Raise a DapaError: a checkpoint's config ties its head to its embeddings, and its files hold two that differ.

    transformers 5 takes the head, with a warning; earlier versions and vLLM take the embeddings for it.
    """
    raise DapaError(
        f"{source}: config.json says tie_word_embeddings=true, and {head} differs from {embeddings}; which of them is"
        f" the head depends on the program. Set tie_word_embeddings to false, or take {head} out of the files"
    )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN])


def _hint(missing: Collection[str], left_over: Collection[str]) -> str:
    """A hint if one wrong prefix explains every name, else an empty string.

    The prefix is either surplus in the checkpoint (a wrapper such as DDP adds it) or lacking there.
    """
    if not left_over:
        return ""
    first, known = min(left_over), frozenset(missing)
    for name in known:
        if (prefix := first.removesuffix(name)).endswith(".") and {prefix + name for name in known} >= {*left_over}:
            return f". Every name begins with '{prefix}', which a wrapper has put there: save the weights without it"
        if (prefix := name.removesuffix(first)).endswith(".") and known >= {prefix + name for name in left_over}:
            return f". Every name lacks '{prefix}' at its beginning: save the whole model, not a part of it"
    return ""
