"""A reference model's next-token distributions, kept on disk until the run is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save

Reference = list[tuple[list[int], torch.Tensor]]
"""For each prompt, the first tokens of the reference's answer, and its log-probabilities of each of
them and of the one after, shape (tokens + 1, vocabulary)."""


def remembered_reference(path: Path, compute: Callable[[], Reference]) -> Reference:
    """The reference in a file, computed and written first where it is not there."""
    if not path.is_file():
        reference = compute()
        tensors = {}
        for index, (ids, logs) in enumerate(reference):
            tensors[f"{index}.ids"] = torch.tensor(ids, dtype=torch.int64)
            tensors[f"{index}.logs"] = logs.contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(save(tensors))  # safetensors' own writing hides that a disk is full
        part.replace(path)
        return reference
    kept = load_file(path)
    return [(kept[f"{i}.ids"].tolist(), kept[f"{i}.logs"]) for i in range(len(kept) // 2)]
