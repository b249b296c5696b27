"""Checks whether teacher and student were tuned from the same base model, or the student from the teacher itself.

A transplant between unrelated models says little about the method. Some methods are made only for students that were
tuned from their teacher.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from dapa_exp.models.architecture import Part, RowShare
from dapa_exp.models.templates import template_in
from dapa_exp.models.tensors import TensorReader

KIN = 0.5
"""Two models are unrelated if the mean cosine of their weights is below this. Fine-tunes of one model are above 0.9."""
_TENSORS = 8
_ROWS = 64


def kinship(teacher: TensorReader, student: TensorReader) -> tuple[float, int] | None:
    """The mean cosine of the two models' weights, and the number of matrices, of which the first rows are compared.

    None if their layers have no matrix of the same name and shape.
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
    """Differences between teacher and student that their configs do not show, found in the files of their folders."""
    found = []
    vocabularies = [_vocabulary(folder) for folder in folders]
    first, second = vocabularies
    if first and second and (strange := len(first ^ second)):
        found.append(f"tokenizer: {strange} entries, of {len(first)} and {len(second)}, are in one of the two only")
    found += _read_otherwise(*folders)
    kin = kinship(teacher, student)
    if kin and kin[0] < KIN:
        found.append(
            f"weights: cosine {kin[0]:.2f} on average of {kin[1]} matrices; the student and the teacher"
            " do not stem from one model"
        )
    return found


def _read_otherwise(teacher: Path, student: Path) -> Iterator[str]:
    """Say so if the teacher's tokenizer and the student's split a text into other tokens.

    The text holds the tokens that the teacher's chat template names. Where such a token falls into pieces, as after a
    conversion that lost the list of special tokens, the student does not see where a request begins.
    """
    try:
        template = template_in(teacher)
        marks = template.text if template else ""
        first, second = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (teacher, student))
    except Exception:  # tokenizers raises no narrower kind; check_templates and load_model say what is wrong
        return
    named = [token.content for token in first.get_added_tokens_decoder().values()]
    text = "".join(token for token in named if token in marks) + "How Are You?"
    tokens = [tokenizer.encode(text, add_special_tokens=False).tokens for tokenizer in (first, second)]
    if tokens[0] != tokens[1]:
        yield (
            f"tokenizer: {text!r} begins for the teacher {tokens[0][:8]} and for the student {tokens[1][:8]}; a chat"
            " template's tokens must not fall into pieces"
        )


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
    return tensors.read(Part(name, RowShare(0, max(1, rows // _ROWS)))).double().flatten()


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def _vocabulary(folder: Path) -> set[tuple[str, int]]:
    """The tokens of a folder's tokenizer.json, with their ids. Empty if the file is missing or cannot be read."""
    try:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        added = {(str(token["content"]), int(token["id"])) for token in content["added_tokens"]}
        return added | {(token, number) for token, number in content["model"]["vocab"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
