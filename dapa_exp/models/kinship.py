"""Does a student stem from what its teacher stems from, or from the teacher itself?

A transplant between strangers says little of the method. Some methods are made for students of the second kind only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from dapa_exp.models.architecture import Part, Share
from dapa_exp.models.tensors import TensorReader

KIN = 0.5
"""Mean cosine of two models' weights below which they have nothing in common: fine-tunes of one model are above 0.9."""
_TENSORS = 8
_ROWS = 64


def kinship(teacher: TensorReader, student: TensorReader) -> tuple[float, int] | None:
    """The mean cosine of their weights, over the first rows of some of their matrices, and of how many.

    None where they share no matrix of one shape within their layers.
    """
    shared = _shared(student, teacher)
    sample = shared[:: max(1, len(shared) // _TENSORS)][:_TENSORS]
    cosines = [_cosine(*(_first_rows(tensors, name) for tensors in (teacher, student))) for name in sample]
    return (sum(cosines) / len(cosines), len(cosines)) if cosines else None


def alignment_share(teacher: TensorReader, student: TensorReader, base: TensorReader) -> float | None:
    """How much of what the teacher learnt since its base B the student has: ⟨S − B, T − B⟩ / ‖T − B‖².

    About 1 for a student that was tuned from the teacher, about 0 for one that was tuned from the base, however far
    it was tuned. Over the first rows of all their matrices; None where teacher and base do not differ there.
    """
    along = length = 0.0
    for name in _shared(student, teacher, base):
        t, s, b = (_first_rows(tensors, name) for tensors in (teacher, student, base))
        along += float((s - b) @ (t - b))
        length += float((t - b) @ (t - b))
    return along / length if length else None


def stored_differences(folders: Sequence[Path], teacher: TensorReader, student: TensorReader) -> list[str]:
    """What the files of a teacher and a student, in these folders, say that their configs do not."""
    found = []
    vocabularies = [_vocabulary(folder) for folder in folders]
    first, second = vocabularies
    if first and second and (strange := len(first ^ second)):
        found.append(f"tokenizer: {strange} entries, of {len(first)} and {len(second)}, are in one of the two only")
    kin = kinship(teacher, student)
    if kin and kin[0] < KIN:
        found.append(
            f"weights: cosine {kin[0]:.2f} on average of {kin[1]} matrices; the student and the teacher"
            " do not stem from one model"
        )
    return found


def _shared(student: TensorReader, *others: TensorReader) -> list[str]:
    """The matrices within the student's layers that all others have in the same shape."""
    return [
        name
        for name, info in student.tensors.items()
        if ".layers." in name
        and len(info.shape) == 2
        and all(name in other.tensors and other.tensors[name].shape == info.shape for other in others)
    ]


def _first_rows(tensors: TensorReader, name: str) -> torch.Tensor:
    rows = tensors.tensors[name].shape[0]
    return tensors.read(Part(name, Share(0, max(1, rows // _ROWS)))).double().flatten()


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def _vocabulary(folder: Path) -> set[tuple[str, int]]:
    """The tokens of a tokenizer.json, with their numbers; empty where it holds none that can be read."""
    try:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        added = {(str(token["content"]), int(token["id"])) for token in content["added_tokens"]}
        return added | {(token, number) for token, number in content["model"]["vocab"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
