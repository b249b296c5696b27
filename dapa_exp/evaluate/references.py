"""The distributions that other models are compared with, as tensors by name: what files hold of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Reference = list[tuple[list[int], torch.Tensor]]
"""For each prompt, the first tokens of the reference's answer, and its log-probabilities of each of
them and of the one after, shape (tokens + 1, vocabulary)."""


def to_tensors(reference: Reference) -> dict[str, Tensor]:
    """A reference as tensors."""
    return {
        f"{i}.{part}": tensor
        for i, (ids, logs) in enumerate(reference)
        for part, tensor in (("ids", torch.tensor(ids, dtype=torch.int64)), ("logs", logs))
    }


def from_tensors(tensors: Mapping[str, Tensor]) -> Reference:
    """The reference that `to_tensors` was given."""
    return [(tensors[f"{i}.ids"].tolist(), tensors[f"{i}.logs"]) for i in range(len(tensors) // 2)]
