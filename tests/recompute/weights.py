"""The tensors of student and teacher, straight from their safetensors files, and what a transplant made of them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from safetensors.torch import load_file

from dapa_exp.zoo import store

BESIDE = (".json", ".jinja", ".model")
NOT_DIGESTED = "manifest.json"
"""The zoo's notes on a model."""


def folder_of(model: str) -> Path | None:
    """The folder of a miniature, or of a checkpoint of this machine; None of the hub's."""
    if model.startswith("zoo:"):
        return store.path(model.removeprefix("zoo:"))
    return Path(model) if Path(model).is_dir() else None


@cache
def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@cache
def checkpoint_digest(folder: Path) -> str:
    """SHA-256 over names and digests of weights, configs and tokenizer."""
    files = [
        file
        for file in sorted(folder.iterdir())
        if (file.suffix in BESIDE and file.name != NOT_DIGESTED) or file.suffix == ".safetensors"
    ]
    listing = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def moved_names(units: list[str], names: list[str]) -> list[str]:
    """The tensors of the units: those below a module of the unit's name."""
    return [name for name in names if any(name.startswith(f"model.{unit}.") for unit in units)]


def hybrid_tensors(units: list[str], student: Path, teacher: Path) -> dict[str, torch.Tensor]:
    """The student's tensors, those of the units being the teacher's."""
    ours, theirs = tensors_of(student), tensors_of(teacher)
    return ours | {name: theirs[name] for name in moved_names(units, list(ours))}


def transplant_numbers(units: list[str], student: Path, teacher: Path) -> dict[str, Any]:
    """What a record says of a transplant that copies, from the checkpoints alone."""
    ours, theirs = tensors_of(student), tensors_of(teacher)
    names = moved_names(units, list(ours))
    total = sum(tensor.numel() for tensor in ours.values())
    moved = sum(ours[name].numel() for name in names)
    listing = json.dumps(tensor_digests(units, student, teacher), sort_keys=True)
    return {
        "tensors": len(names),
        "parameters": moved,
        "differing": sum(int(np.sum(ours[name].numpy() != theirs[name].numpy())) for name in names),
        "parameters_total": total,
        "percent": 100 * moved / total,
        "bytes": sum(theirs[name].numel() * theirs[name].element_size() for name in names),
        "digest": hashlib.sha256(listing.encode()).hexdigest(),
        "largest": max((float(np.abs(theirs[name].numpy()).max()) for name in names), default=0.0),
        "largest_student": max((float(np.abs(ours[name].numpy()).max()) for name in names), default=0.0),
    }


def tensor_digests(units: list[str], student: Path, teacher: Path) -> dict[str, str]:
    """BLAKE3 over dtype, shape and bytes of each transplanted tensor."""
    theirs = tensors_of(teacher)
    return {name: _tensor_digest(theirs[name]) for name in moved_names(units, list(tensors_of(student)))}


def _tensor_digest(tensor: torch.Tensor) -> str:
    head = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return blake3(head + tensor.contiguous().numpy().tobytes()).hexdigest()
