"""Refuses weights that do not fill a model: the libraries leave random numbers where a tensor is missing."""

from __future__ import annotations

from collections.abc import Collection

from dapa_exp.base.errors import DapaError

_SHOWN = 4


def refuse_unplaced(source: str, missing: Collection[str], left_over: Collection[str]) -> None:
    """Raise a DapaError that names the model's tensors which `source` lacks, and its own that have no place there."""
    wrong = []
    if missing:
        wrong.append(f"lacks {len(missing)} of the model's tensors, such as {_some(missing)}")
    if left_over:
        wrong.append(f"holds {len(left_over)} tensors that have no place in the model, such as {_some(left_over)}")
    if wrong:
        raise DapaError(f"{source}: {'; '.join(wrong)}{_hint(missing, left_over)}")


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN])


def _hint(missing: Collection[str], left_over: Collection[str]) -> str:
    """What all names have too much or too little at their beginning, where that explains all that is left over."""
    if not left_over:
        return ""
    first, known = min(left_over), frozenset(missing)
    for name in known:
        if (prefix := first.removesuffix(name)).endswith(".") and {prefix + name for name in known} >= {*left_over}:
            return f". Every name begins with '{prefix}', which a wrapper has put there: save the weights without it"
        if (prefix := name.removesuffix(first)).endswith(".") and known >= {prefix + name for name in left_over}:
            return f". Every name lacks '{prefix}' at its beginning: save the whole model, not a part of it"
    return ""
