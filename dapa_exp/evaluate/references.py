"""What other models are compared with, kept on disk until the run is done: distributions and inner states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dapa_exp.models.tensors import remembered_tensors

Reference = list[tuple[list[int], torch.Tensor]]
"""For each prompt, the first tokens of the reference's answer, and its log-probabilities of each of
them and of the one after, shape (tokens + 1, vocabulary)."""


def remembered_reference(path: Path, compute: Callable[[], Reference]) -> Reference:
    """The reference in a file, computed and written first where it is not there."""

    def tensors() -> dict[str, Tensor]:
        return {
            f"{i}.{part}": tensor
            for i, (ids, logs) in enumerate(compute())
            for part, tensor in (("ids", torch.tensor(ids, dtype=torch.int64)), ("logs", logs))
        }

    kept = remembered_tensors(path, tensors)
    return [(kept[f"{i}.ids"].tolist(), kept[f"{i}.logs"]) for i in range(len(kept) // 2)]
